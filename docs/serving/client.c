/* Calls a signature of a SavedModel by TensorFlow's C API, without Python.
 *
 *   client MODEL SIGNATURE INPUT=FILE ... [--out FOLDER] [-- SIGNATURE ...]
 *
 * MODEL is a version's directory. A FILE is an .npy array; for an input of strings, a list of files
 * with commas between, whose bytes are the strings. Each output is written to FOLDER/OUTPUT.npy, or
 * for strings to FOLDER/OUTPUT-0, FOLDER/OUTPUT-1 and so on. Build it with
 *
 *   TF=$(python -c "import tensorflow as tf; print(tf.sysconfig.get_lib())")
 *   gcc -O2 -o client client.c -I"$TF/include" -L"$TF" -l:libtensorflow_cc.so.2 \
 *     -l:libtensorflow_framework.so.2 -Wl,-rpath,"$TF"
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>
#include <tensorflow/c/tf_tensor.h>
#include <tensorflow/c/tf_tstring.h>

#define MOST 16

static void fail(const char *what, const char *why) {
  fprintf(stderr, "client: error: %s: %s\n", what, why);
  exit(1);
}

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

/* --- the signature, read from the serialised MetaGraphDef --------------------------------------- */

typedef struct {
  const uint8_t *at, *end;
} Bytes;

static uint64_t varint(Bytes *from) {
  uint64_t value = 0;
  for (int shift = 0; from->at < from->end && shift < 64; shift += 7) {
    uint8_t byte = *from->at++;
    value |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) break;
  }
  return value;
}

/* Gives the next field's number, 0 at the end; and its content where that has a length. */
static int next_field(Bytes *from, Bytes *content, uint64_t *number) {
  if (from->at >= from->end) return 0;
  uint64_t key = varint(from), length = 0;
  switch (key & 7) {
    case 0: *number = varint(from); break;
    case 1: length = 8; break;
    case 2: length = varint(from); break;
    case 5: length = 4; break;
    default: fail("MetaGraphDef", "damaged");
  }
  if (length > (uint64_t)(from->end - from->at)) fail("MetaGraphDef", "damaged");
  content->at = from->at;
  content->end = from->at += length;
  return (int)(key >> 3);
}

static int is_text(Bytes bytes, const char *text) {
  size_t length = strlen(text);
  return (size_t)(bytes.end - bytes.at) == length && !memcmp(bytes.at, text, length);
}

/* An entry of a map from strings to messages. */
static void entry(Bytes from, Bytes *key, Bytes *value) {
  Bytes content;
  uint64_t number;
  for (int field; (field = next_field(&from, &content, &number));) {
    if (field == 1) *key = content;
    if (field == 2) *value = content;
  }
}

typedef struct {
  char name[128];
  TF_Output tensor;
  TF_DataType type;
} Port;

typedef struct {
  Port inputs[MOST], outputs[MOST];
  int input_count, output_count;
} Signature;

static void add_port(Port *ports, int *count, Bytes from, TF_Graph *graph) {
  if (*count == MOST) fail("signature", "too many inputs or outputs");
  Port *port = &ports[(*count)++];
  Bytes key = {0, 0}, info = {0, 0}, content;
  uint64_t number = 0;
  char tensor[512];
  entry(from, &key, &info);
  snprintf(port->name, sizeof port->name, "%.*s", (int)(key.end - key.at), (const char *)key.at);
  for (int field; (field = next_field(&info, &content, &number));) {
    if (field == 1)
      snprintf(tensor, sizeof tensor, "%.*s", (int)(content.end - content.at),
               (const char *)content.at);
    if (field == 2) port->type = (TF_DataType)number;
  }
  char *colon = strrchr(tensor, ':');
  if (colon) *colon = 0;
  port->tensor.index = colon ? atoi(colon + 1) : 0;
  port->tensor.oper = TF_GraphOperationByName(graph, tensor);
  if (!port->tensor.oper) fail(tensor, "no such operation in the graph");
}

static Signature find_signature(const TF_Buffer *meta, const char *name, TF_Graph *graph) {
  Bytes from = {meta->data, (const uint8_t *)meta->data + meta->length}, content, key, value;
  uint64_t number;
  for (int field; (field = next_field(&from, &content, &number));) {
    if (field != 5) continue; /* MetaGraphDef.signature_def */
    key = value = (Bytes){0, 0};
    entry(content, &key, &value);
    if (!is_text(key, name)) continue;
    Signature found = {.input_count = 0, .output_count = 0};
    for (int side; (side = next_field(&value, &content, &number));) {
      if (side == 1) add_port(found.inputs, &found.input_count, content, graph);
      if (side == 2) add_port(found.outputs, &found.output_count, content, graph);
    }
    return found;
  }
  fail(name, "the model has no such signature");
  exit(1);
}

/* --- arrays --------------------------------------------------------------------------------------- */

static const struct {
  TF_DataType type;
  const char *code;
} KINDS[] = {{TF_FLOAT, "<f4"}, {TF_INT32, "<i4"}, {TF_UINT8, "|u1"}, {TF_BOOL, "|b1"}};

static const char *code_of(TF_DataType type) {
  for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
    if (KINDS[i].type == type) return KINDS[i].code;
  fail("tensor", "of a type that this program does not know");
  exit(1);
}

static char *read_file(const char *path, size_t *length) {
  FILE *file = fopen(path, "rb");
  if (!file) fail(path, "cannot be read");
  char *data = NULL;
  size_t room = 0;
  *length = 0;
  do {
    if (*length == room && !(data = realloc(data, room = room ? 2 * room : 1 << 16)))
      fail(path, "is larger than the memory");
    *length += fread(data + *length, 1, room - *length, file);
  } while (!feof(file) && !ferror(file));
  fclose(file);
  return data;
}

static TF_Tensor *read_npy(const char *path, TF_DataType type) {
  size_t length;
  char *data = read_file(path, &length);
  if (length < 10 || memcmp(data, "\x93NUMPY\x01", 7)) fail(path, "is no .npy file, version 1");
  size_t start = 10 + (uint8_t)data[8] + 256 * (uint8_t)data[9];
  if (start > length) fail(path, "is damaged");
  char header[1024];
  snprintf(header, sizeof header, "%.*s", (int)(start - 10), data + 10);
  if (!strstr(header, code_of(type))) fail(path, "holds values of another type than the input");
  if (!strstr(header, "'fortran_order': False")) fail(path, "is not in C order");
  char *at = strstr(header, "'shape': (");
  if (!at) fail(path, "is damaged");
  int64_t dims[8];
  int rank = 0;
  size_t bytes = TF_DataTypeSize(type);
  for (at += 10; *at && *at != ')' && rank < 8;) {
    char *after;
    dims[rank] = strtoll(at, &after, 10);
    if (after == at) break;
    bytes *= (size_t)dims[rank++];
    for (at = after; *at == ',' || *at == ' '; at++) {}
  }
  if (start + bytes != length) fail(path, "is damaged");
  TF_Tensor *tensor = TF_AllocateTensor(type, dims, rank, bytes);
  memcpy(TF_TensorData(tensor), data + start, bytes);
  free(data);
  return tensor;
}

static TF_Tensor *read_strings(char *paths) {
  int64_t count = 1;
  for (char *at = paths; *at; at++) count += *at == ',';
  TF_Tensor *tensor = TF_AllocateTensor(TF_STRING, &count, 1, count * sizeof(TF_TString));
  TF_TString *strings = TF_TensorData(tensor);
  char *path = strtok(paths, ",");
  for (int64_t i = 0; i < count; i++, path = strtok(NULL, ",")) {
    if (!path) fail("list of files", "has an empty name");
    size_t length;
    char *data = read_file(path, &length);
    TF_TString_Init(&strings[i]);
    TF_TString_Copy(&strings[i], data, length);
    free(data);
  }
  return tensor;
}

static FILE *new_file(const char *folder, const char *name, const char *ending) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s%s", folder, name, ending);
  FILE *file = fopen(path, "wb");
  if (!file) fail(path, "cannot be written");
  return file;
}

static void write_output(const char *folder, const char *name, const TF_Tensor *tensor) {
  if (TF_TensorType(tensor) == TF_STRING) {
    const TF_TString *strings = TF_TensorData(tensor);
    for (int64_t i = 0; i < TF_TensorElementCount(tensor); i++) {
      char ending[32];
      snprintf(ending, sizeof ending, "-%lld", (long long)i);
      FILE *file = new_file(folder, name, ending);
      fwrite(TF_TString_GetDataPointer(&strings[i]), 1, TF_TString_GetSize(&strings[i]), file);
      fclose(file);
    }
    return;
  }
  char shape[256] = "", header[512];
  for (int i = 0; i < TF_NumDims(tensor); i++)
    snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%lld, ",
             (long long)TF_Dim(tensor, i));
  int length = snprintf(header, sizeof header,
                        "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                        code_of(TF_TensorType(tensor)), shape);
  int padded = (10 + length + 1 + 63) / 64 * 64 - 10;
  FILE *file = new_file(folder, name, ".npy");
  fwrite("\x93NUMPY\x01\0", 1, 8, file);
  fputc(padded & 255, file);
  fputc(padded >> 8, file);
  fprintf(file, "%-*s\n", padded - 1, header);
  fwrite(TF_TensorData(tensor), 1, TF_TensorByteSize(tensor), file);
  fclose(file);
}

/* --- the call ------------------------------------------------------------------------------------- */

/* Calls one signature as `count` arguments say. */
static void call(TF_Session *session, TF_Graph *graph, const TF_Buffer *meta, char **arguments,
                 int count) {
  Signature signature = find_signature(meta, arguments[0], graph);
  TF_Output inputs[MOST], outputs[MOST];
  TF_Tensor *given[MOST] = {0}, *made[MOST] = {0};
  const char *folder = ".";
  for (int i = 1; i < count; i++) {
    if (!strcmp(arguments[i], "--out") && i + 1 < count) {
      folder = arguments[++i];
      continue;
    }
    char *file = strchr(arguments[i], '=');
    if (!file) fail(arguments[i], "expected INPUT=FILE");
    *file++ = 0;
    int port = 0;
    while (port < signature.input_count && strcmp(signature.inputs[port].name, arguments[i])) port++;
    if (port == signature.input_count) fail(arguments[i], "the signature has no such input");
    TF_DataType type = signature.inputs[port].type;
    given[port] = type == TF_STRING ? read_strings(file) : read_npy(file, type);
  }
  for (int i = 0; i < signature.input_count; i++) {
    if (!given[i]) fail(signature.inputs[i].name, "this input is missing");
    inputs[i] = signature.inputs[i].tensor;
  }
  for (int i = 0; i < signature.output_count; i++) outputs[i] = signature.outputs[i].tensor;

  TF_Status *status = TF_NewStatus();
  TF_SessionRun(session, NULL, inputs, given, signature.input_count, outputs, made,
                signature.output_count, NULL, 0, NULL, status);
  check(status, arguments[0]);
  TF_DeleteStatus(status);
  for (int i = 0; i < signature.output_count; i++) {
    write_output(folder, signature.outputs[i].name, made[i]);
    printf("%s [", signature.outputs[i].name);
    for (int axis = 0; axis < TF_NumDims(made[i]); axis++)
      printf("%s%lld", axis ? ", " : "", (long long)TF_Dim(made[i], axis));
    printf("]\n");
    TF_DeleteTensor(made[i]);
  }
  for (int i = 0; i < signature.input_count; i++) TF_DeleteTensor(given[i]);
}

int main(int argc, char **argv) {
  if (argc < 3) fail("usage", "client MODEL SIGNATURE INPUT=FILE ... [--out FOLDER]");
  TF_Status *status = TF_NewStatus();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Graph *graph = TF_NewGraph();
  TF_Buffer *meta = TF_NewBuffer();
  const char *tags[] = {"serve"};
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, meta, status);
  check(status, argv[1]);
  for (int first = 2; first < argc;) {
    int last = first + 1;
    while (last < argc && strcmp(argv[last], "--")) last++;
    call(session, graph, meta, argv + first, last - first);
    first = last + 1;
  }
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteGraph(graph);
  TF_DeleteBuffer(meta);
  TF_DeleteSessionOptions(options);
  TF_DeleteStatus(status);
  return 0;
}
