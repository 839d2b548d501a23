"""The page of a table's model: a form that is filled in as one types, the map, made-up rows."""

from typing import Any

from tfvae.app import rows, server, views
from tfvae.app.parts import Parts, checked_seed, following_seed, told
from tfvae.app.rows import RowModel, Rows
from tfvae.errors import InputError

# A form of more would be too long to fill in.
_MOST_FIELDS = 60
_MOST_LEVELS = 200
_NOT_KNOWN = "not known"


def row_page(model: RowModel, examples: Rows, *, title: str = "tfvae") -> Any:
    """Build the page of a table's model.

    Args:
        model: what to explore.
        examples: rows to explore it with.
        title: of the page.

    Returns:
        A `gradio.Blocks`.

    Raises:
        InputError: if gradio is not installed.
    """
    return _RowExplorer(server.gradio(), model, examples).page(title)


class _RowExplorer(Parts):
    """The parts of one page, each laid out and wired by a method of its own."""

    def __init__(self, gr: Any, model: RowModel, examples: Rows):
        super().__init__(gr)
        self._model = model
        self._examples = examples
        self._columns = model.schema.columns[:_MOST_FIELDS]

    def lay_out(self, title: str) -> None:
        """Put the parts in their places."""
        gr, model, examples = self.gr, self._model, self._examples
        facts = (
            f"rows of {len(model.schema.columns)} columns, {model.latent_dim} latent dimensions; "
            f"{len(examples.x):,} {examples.name}"
        )
        self.title(title, facts)
        with gr.Row():
            with gr.Column(min_width=380, scale=3):
                filled = self._form()
            with gr.Column(min_width=380, scale=2):
                self._map(*filled)
        self._made_up()

    # --- the parts --------------------------------------------------------------------------------

    def _form(self) -> tuple[list[Any], Any, Any]:
        """Lay out the form, and return its fields, the label and what shows the filled row."""
        gr, model = self.gr, self._model
        names = [column.name for column in self._columns]

        def fill(label: int | None, *values: str | None) -> str:
            given = dict(zip(names, values, strict=True))
            try:
                return rows.completed(model, given, label)
            except InputError as error:
                return views.problem(error)

        with self.card():
            text = "give the values that you know; the others are filled in as you type"
            if len(model.schema.columns) > len(names):
                text += f"; the first {len(names)} of {len(model.schema.columns)} columns"
            self.heading("Fill in a row", text)
            with gr.Row():
                with gr.Column(min_width=200, scale=2):
                    label = self._label("form")
                    fields = []
                    for start in range(0, len(self._columns), 2):
                        with gr.Row():
                            fields += [
                                self._field(place)
                                for place in range(start, min(start + 2, len(self._columns)))
                            ]
                    clear = gr.Button("Clear", elem_id="clear")
                with gr.Column(min_width=240, scale=3):
                    nothing = [None] * len(names)
                    row = self.html(fill(label.value, *nothing), "completed")

        def emptied(label: int | None) -> list[Any]:
            return [*([""] * len(names)), fill(label, *nothing)]

        controls = [label, *fields]
        gr.on([field.input for field in fields], fill, controls, row, **self.live)
        clear.click(emptied, label, [*fields, row], **self.live)
        if model.num_classes is not None:
            label.input(fill, controls, row, **self.live)
        return fields, label, row

    def _map(self, fields: list[Any], label: Any, row: Any) -> None:
        gr, model, examples = self.gr, self._model, self._examples
        names = [column.name for column in model.schema.columns]
        with self.card():
            text = f"{examples.name}; point at one to see it, click to put it into the form"
            self.heading("Latent map", text)
            by = gr.Dropdown(names, value=names[0], label="coloured by", elem_id="by")
            points = rows.row_map(model, examples, names[0])
            picture = self.html(points, "map", js_on_load=views.MAP_SCRIPT)

        def paint(by: str) -> str:
            return rows.row_map(model, examples, by)

        # Gradio tells by its type that the argument is the event.
        def choose(event: gr.EventData) -> list[Any]:  # type: ignore[name-defined]
            number = examples.row(event.index)
            own = None
            if model.num_classes is not None and examples.labels is not None:
                own = int(examples.labels[number])
            values = rows.texts(model, examples.x[number])
            given = dict(zip(names, values, strict=True))
            return [own, *values[: len(fields)], rows.completed(model, given, own)]

        by.input(paint, by, picture, **self.live)
        picture.select(choose, None, [label, *fields, row], **self.live)

    def _made_up(self) -> None:
        gr, model = self.gr, self._model
        with self.card():
            self.heading("Made-up rows", "z drawn from the prior, and x from p(x|z)")
            with self.controls():
                seed = gr.Number(0, label="seed", precision=0, min_width=80, elem_id="seed")
                label = self._label("samples")
                again = gr.Button("New seed", min_width=80, elem_id="new-seed")
            table = self.html(rows.made_up(model, 0, label.value), "samples")

        def draw(seed: Any, label: int | None) -> str:
            return told(lambda: rows.made_up(model, checked_seed(seed), label))

        def draw_again(seed: Any, label: int | None) -> tuple[int, str]:
            following = following_seed(seed)
            return following, draw(following, label)

        seed.input(draw, [seed, label], table, **self.live)
        again.click(draw_again, [seed, label], [seed, table], **self.live)
        if model.num_classes is not None:
            label.input(draw, [seed, label], table, **self.live)

    # --- what the parts share ---------------------------------------------------------------------

    def _field(self, place: int) -> Any:
        """Return the control for the value of a column."""
        gr, column = self.gr, self._columns[place]
        common = {"label": column.name, "min_width": 120, "elem_id": f"field-{place}"}
        levels = rows.choices(column)
        if levels is not None and len(levels) <= _MOST_LEVELS:
            return gr.Dropdown(
                [(_NOT_KNOWN, ""), *((level, level) for level in levels)], value="", **common
            )
        return gr.Textbox("", placeholder=_NOT_KNOWN, max_lines=1, max_length=1000, **common)

    def _label(self, part: str) -> Any:
        """Return the control for a label; for a model without, a state that is always None."""
        classes, column = self._model.num_classes, self._model.schema.label
        if classes is None:
            return self.gr.State(None)
        names = [] if column is None else rows.choices(column) or []
        choices = [
            (names[number] if number < len(names) else str(number), number)
            for number in range(classes)
        ]
        name = "label" if column is None else column.name
        return self.gr.Dropdown(choices, value=0, label=name, elem_id=f"label-{part}")
