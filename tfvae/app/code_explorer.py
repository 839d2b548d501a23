"""The page of a model with codes: an image's map of codes, to change one; samples; the codebook."""

from typing import Any

import numpy as np

from tfvae.app import codes as shown
from tfvae.app import server, views
from tfvae.app.codes import CodeModel
from tfvae.app.explorable import Examples
from tfvae.app.parts import Parts, checked_seed, following_seed, told
from tfvae.errors import InputError


def code_page(model: CodeModel, examples: Examples, *, title: str = "tfvae") -> Any:
    """Build the page of a model with codes.

    Args:
        model: what to explore.
        examples: images to explore it with.
        title: of the page.

    Returns:
        A `gradio.Blocks`.

    Raises:
        InputError: if gradio is not installed.
    """
    return _CodeExplorer(server.gradio(), model, examples).page(title)


class _CodeExplorer(Parts):
    """The parts of one page, each laid out and wired by a method of its own."""

    def __init__(self, gr: Any, model: CodeModel, examples: Examples):
        super().__init__(gr)
        self._model = model
        self._examples = examples

    def lay_out(self, title: str) -> None:
        """Put the parts in their places."""
        gr, model = self.gr, self._model
        height, width, channels = model.image_shape
        rows, columns = model.places
        facts = f"images {height} x {width} x {channels}, {rows} x {columns} codes"
        if model.depth > 1:
            facts += f" at each of {model.depth} levels"
        facts += f" below {model.num_codes}"
        if model.num_classes is not None:
            facts += f", conditional on {model.num_classes} labels"
        facts += f"; {len(self._examples.images):,} {self._examples.name}"
        self.title(title, facts)
        self._change()
        with gr.Row():
            with gr.Column(min_width=320, scale=3):
                self._samples()
            with gr.Column(min_width=320, scale=2):
                self._use()

    # --- the parts --------------------------------------------------------------------------------

    def _change(self) -> None:
        """Lay out an image with its codes, of which one can be changed."""
        gr, model, examples = self.gr, self._model, self._examples

        def own(number: int) -> tuple[np.ndarray, int | None]:
            label = examples.condition(model, [number])
            # Of images that the model drew, the codes that they were drawn from may be others.
            codes = model.code(examples.images[number][None], label)[0]
            return codes.astype(np.int64), None if label is None else int(label[0])

        def picture(number: Any, codes: np.ndarray) -> str:
            row = examples.row(number)
            return shown.reconstruction(model, examples.images[row], codes, own(row)[1])

        def taken(number: Any, level: int) -> list[Any]:
            try:
                codes, _ = own(examples.row(number))
            except InputError as error:
                return [views.problem(error), gr.skip(), gr.skip(), gr.skip()]
            drawn = shown.code_map(model, codes, level, None)
            return [picture(number, codes), drawn, codes, None]

        first, drawn, codes, _ = taken(0, 0)
        with self.card():
            text = f"one of the {examples.name}; click on a code, and give it another number"
            self.heading("Codes", text)
            with self.controls():
                number = gr.Number(
                    0, label="image: no.", precision=0, min_width=90, elem_id="number-image"
                )
                level = self._level()
                code = gr.Slider(
                    0, model.num_codes - 1, 0, step=1, label="code", elem_id="code", buttons=[]
                )
                back = gr.Button("Its own codes", min_width=110, elem_id="own-codes")
            with gr.Row():
                with gr.Column(min_width=320):
                    codes_map = self.html(drawn, "codes", js_on_load=views.MAP_SCRIPT)
                with gr.Column(min_width=320):
                    score = self.html(first, "reconstruction")
            state, place = gr.State(codes), gr.State(None)

        # Gradio tells by its type that the argument is the event.
        def choose(codes: np.ndarray, level: int, event: gr.EventData) -> list[Any]:  # type: ignore[name-defined]
            where = int(event.index)
            if not 0 <= where < len(codes) // model.depth:
                return [gr.skip()] * 3
            ringed = shown.code_map(model, codes, level, where)
            return [where, int(codes[where * model.depth + level]), ringed]

        def change(
            number: Any, codes: np.ndarray, level: int, place: int | None, code: Any
        ) -> list[Any]:
            if place is None or not 0 <= int(code) < model.num_codes:
                return [gr.skip()] * 3
            changed = codes.copy()
            changed[place * model.depth + level] = int(code)
            ringed = shown.code_map(model, changed, level, place)
            return [changed, ringed, picture(number, changed)]

        def of_level(codes: np.ndarray, level: int) -> list[Any]:
            return [shown.code_map(model, codes, level, None), None]

        outputs = [score, codes_map, state, place]
        number.input(taken, [number, level], outputs, **self.live)
        back.click(taken, [number, level], outputs, **self.live)
        codes_map.select(choose, [state, level], [place, code, codes_map], **self.live)
        code.input(
            change, [number, state, level, place, code], [state, codes_map, score], **self.live
        )
        if model.depth > 1:
            level.input(of_level, [state, level], [codes_map, place], **self.live)

    def _samples(self) -> None:
        gr, model = self.gr, self._model
        with self.card():
            text = "codes drawn from the prior, decoded"
            if not model.prior_is_trained:
                text += "; it has not been trained, and is uniform"
            self.heading("Samples", text)
            with self.controls():
                seed = gr.Number(0, label="seed", precision=0, min_width=80, elem_id="seed")
                label = self.label(model.num_classes, "label y", "samples", some_of_each=True)
                temperature = gr.Slider(
                    0.1, 1.5, 1.0, step=0.05, label="temperature", elem_id="temperature", buttons=[]
                )
                again = gr.Button("New seed", min_width=80, elem_id="new-seed")

            def draw(seed: Any, label: int | None, temperature: float) -> str:
                def found() -> str:
                    chosen = views.labels_of_grid(model, label, 64)
                    drawn = model.draw(64, chosen, checked_seed(seed), float(temperature))
                    return views.grid(model.decode(drawn, chosen), f"samples, seed {seed}")

                return told(found)

            picture = self.html(draw(0, None, 1.0), "samples")

        def draw_again(seed: Any, label: int | None, temperature: float) -> tuple[int, str]:
            following = following_seed(seed)
            return following, draw(following, label, temperature)

        taken = [seed, label, temperature]
        gr.on([seed.input, temperature.input], draw, taken, picture, **self.live)
        again.click(draw_again, taken, [seed, picture], **self.live)
        if model.num_classes is not None:
            label.input(draw, taken, picture, **self.live)

    def _use(self) -> None:
        with self.card():
            of = self._examples.name
            self.heading("Codebook", f"how often each code stands for something in the {of}")
            self.html(shown.use(self._model, self._examples), "use")

    # --- what the parts share ---------------------------------------------------------------------

    def _level(self) -> Any:
        if self._model.depth == 1:
            return self.gr.State(0)
        choices = [(str(level), level) for level in range(self._model.depth)]
        return self.gr.Dropdown(choices, value=0, label="level", elem_id="level", min_width=80)
