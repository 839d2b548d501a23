"""Whatever is read is right, or refused in one line: any type, range, order of axes and mode."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from tfvae.datasets import Schema, open_source
from tfvae.datasets.arrays import from_arrays
from tfvae.datasets.column import level_key
from tfvae.datasets.pictures import decode_files, read_header
from tfvae.datasets.table_files import read_table
from tfvae.errors import InputError

often = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def refused_in_a_line(call, *args, **kwargs):
    """Return what a call returns, or None if it refuses in one line."""
    try:
        return call(*args, **kwargs)
    except InputError as error:
        assert str(error)
        assert "\n" not in str(error)
        return None


TYPES = ["u1", "u2", "i1", "i4", "i8", "f2", "f4", "f8", "?", "c8", "U3"]
ranges = st.sampled_from([(0, 1), (0, 16), (0, 255), (-1, 1), (0, 4095), (0, 65535), (-1e6, 1e30)])


@st.composite
def any_array(draw):
    """An array of any type, range and rank, perhaps with NaN or an infinity in it."""
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    low, high = draw(ranges)
    if dtype.kind in "Uc":
        return rng.random(shape).astype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = max(low, info.min), min(high, info.max)
    with np.errstate(over="ignore"):
        x = (low + (high - low) * rng.random(shape)).astype(dtype)
    odd = draw(st.sampled_from([None, np.nan, np.inf]))
    if odd is not None and dtype.kind == "f":
        x.flat[0] = odd
    return x


@often
@given(
    any_array(),
    st.sampled_from([None, "table", "series", "image", "volume"]),
    st.sampled_from([None, (0.0, 255.0), (-1.0, 1.0)]),
)
def test_arrays_are_read_as_they_are_or_refused(x, kind, value_range):
    source = refused_in_a_line(
        from_arrays, "x", {"train": x}, {}, kind=kind, value_range=value_range
    )
    if source is None:
        return
    read = refused_in_a_line(source.read, np.arange(source.count))
    if read is None:
        assert value_range is not None
        return
    found = read[0]
    found = found.astype(float) / (255 if found.dtype == np.uint8 else 1)
    found = found / (65_535 if read[0].dtype == np.uint16 else 1)
    assert found.shape == (len(x), *source.event_shape)
    assert found.size == x.size
    assert source.missing == bool(np.isnan(x).any())
    assert not np.isinf(x.astype(float)).any()
    low, high = source.value_range or (0.0, 1.0)
    expected = (x.astype(float) - low) / (high - low)
    with np.errstate(over="ignore"):
        expected = expected.astype(np.float32)
    np.testing.assert_allclose(found.reshape(x.shape), expected, rtol=1e-5, atol=2e-5)


@often
@given(
    arrays.arrays(np.uint8, st.sampled_from([(12, 3, 9, 9), (9, 9, 3, 12), (12, 9, 9, 3)])),
    st.integers(40, 255),
)
def test_axes_in_another_order_are_refused(x, largest):
    x = np.array(x)
    x.flat[0] = largest
    source = refused_in_a_line(from_arrays, "x", {"train": x}, {})
    if x.shape == (12, 9, 9, 3):
        np.testing.assert_array_equal(source.read(np.arange(12))[0], x)
    else:
        assert source is None


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"]


@st.composite
def any_picture(draw):
    """A picture of any mode in any format that holds it, and its pixels on white as Pillow has."""
    mode = draw(st.sampled_from(MODES))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    sides = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    if mode in ("I", "I;16", "F"):
        values = rng.integers(0, 65_536, sides).astype({"I": "i4", "I;16": "u2", "F": "f4"}[mode])
        image = Image.fromarray(values)
    else:
        rgba = rng.integers(0, 256, (*sides, 4), np.uint8)
        image = Image.fromarray(rgba)
        image = (image if mode in ("LA", "RGBA") else image.convert("RGB")).convert(mode)
    formats = []
    for kind in ("PNG", "TIFF", "BMP", "WEBP", "PPM", "GIF"):
        file = io.BytesIO()
        try:
            image.save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
        except (OSError, ValueError, KeyError):
            continue
        formats.append(file.getvalue())
    return draw(st.sampled_from(formats))


def on_white(file):
    """Return what Pillow makes of a picture on a white background, `[h, w, 3]`."""
    image = Image.open(io.BytesIO(file))
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(float) / 257
        return np.repeat(values[..., None], 3, axis=2)
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


@often
@given(any_picture())
def test_pictures_of_any_mode_are_what_is_seen_or_refused(file):
    header = refused_in_a_line(read_header, file, "x")
    found = refused_in_a_line(decode_files, [("x", file)], 3, None)
    if header is None or found is None:
        return
    assert found.shape[1:3] == header.size
    mode = Image.open(io.BytesIO(file)).mode
    # Colours of inks are a matter of the program.
    tolerance = 60 if mode == "CMYK" else 1.01
    assert np.abs(found[0] - on_white(file)).max() <= tolerance


NAMES = st.text(min_size=1, max_size=8).map(str.strip).filter(bool)
CELLS = st.one_of(
    st.integers(-(10**6), 10**6),
    st.floats(-1e6, 1e6).map(lambda value: round(value, 3)),
    st.sampled_from(["a", "b", "ä", 'with "quotes"', "two\nlines", "NA", "", "3,14", "inf", "yes"]),
    st.none(),
)


@pytest.mark.exhaustive
@settings(often, max_examples=40)
@given(
    st.lists(NAMES, min_size=1, max_size=4, unique_by=str.lower),
    st.data(),
    st.sampled_from(["csv", "tsv", "parquet", "xlsx"]),
)
def test_tables_come_back_from_every_kind_of_file(tmp_path, names, data, ending):
    rows = data.draw(st.integers(1, 12))
    columns = {}
    for name in names:
        kind = data.draw(st.sampled_from(["numbers", "words", "mixed"]))
        cells = {
            "numbers": st.integers(0, 50) | st.none(),
            "words": st.sampled_from(["red", "green", "blue"]) | st.none(),
            "mixed": CELLS,
        }[kind]
        columns[name] = data.draw(st.lists(cells, min_size=rows, max_size=rows))
    frame = pd.DataFrame(columns, dtype=object)
    path = tmp_path / f"x.{ending}"
    try:
        if ending == "xlsx":
            frame.to_excel(path, index=False)
        elif ending == "parquet":
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    except Exception:  # the writers refuse some contents
        return
    table = refused_in_a_line(read_table, path)
    if table is None:
        return
    schema = refused_in_a_line(Schema.from_frame, table)
    source = refused_in_a_line(open_source, path)
    assert (schema is None) == (source is None)
    if schema is None:
        return
    events = schema.to_events(table)
    back = schema.to_frame(events)
    for column in schema.columns:
        original = table[column.name]
        np.testing.assert_array_equal(back[column.name].isna(), original.isna())
        present = original.notna()
        if column.kind in ("number", "count"):
            np.testing.assert_allclose(
                back[column.name][present].astype(float), original[present].astype(float),
                rtol=1e-4, atol=1e-2 * max(1.0, column.scale),
            )  # fmt: skip
        elif column.kind != "date":
            numbers = events[present, schema.columns.index(column)].astype(int)
            assert [level_key(value) for value in back[column.name][present]] == [
                level_key(column.levels[number]) for number in numbers
            ]
            assert [level_key(value) for value in original[present]] == [
                level_key(column.levels[number]) for number in numbers
            ]
