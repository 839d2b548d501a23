"""The page to explore a latent space with: its layout, and what follows from each control."""

import contextlib
import dataclasses
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfvae.app import server, views
from tfvae.app.code_explorer import code_page
from tfvae.app.codes import CodeModel
from tfvae.app.explorable import CompiledVAE, Examples, LatentModel, check_images
from tfvae.app.parts import MOST_SEED, Parts, checked_seed, following_seed, told
from tfvae.app.row_explorer import row_page
from tfvae.app.rows import RowModel, Rows
from tfvae.datasets.image_files import decode_image
from tfvae.datasets.options import PictureOptions
from tfvae.errors import InputError
from tfvae.saving.config import DataOptions

if TYPE_CHECKING:
    from tfvae.saving.run import TrainedModel

_MOST_SLIDERS = 8


def page(model: LatentModel, examples: Examples | None = None, *, title: str = "tfvae") -> Any:
    """Build the page of a model.

    Args:
        model: what to explore; `CompiledVAE` makes one of a `VAE`.
        examples: images to explore it with; by default samples of the model itself.
        title: of the page.

    Returns:
        A `gradio.Blocks`, to be launched by `launch` or mounted as any other. By itself it keeps
        uploads where Gradio does.

    Raises:
        InputError: if gradio is not installed.
    """
    gr = server.gradio()
    some = Examples.drawn(model) if examples is None else examples
    return _Explorer(gr, model, some).page(title)


def launch(
    model: LatentModel,
    examples: Examples | None = None,
    *,
    title: str = "tfvae",
    host: str = "127.0.0.1",
    port: int | None = None,
    password: str | None = None,
    open_browser: bool = False,
) -> None:
    """Serve the page of a model until Ctrl-C.

    Args:
        model: as for `page`.
        examples: as for `page`.
        title: as for `page`.
        host: the address to listen on. One that other machines reach needs a password.
        port: the port; by default the first free one from 7860.
        password: what a visitor must give, with any user name; None for no login.
        open_browser: whether to open the page in the browser of this machine.

    Raises:
        InputError: if gradio is not installed, the address cannot be had, or a password is needed.
    """
    _serve(
        lambda: page(model, examples, title=title),
        title,
        host=host,
        port=port,
        password=password,
        open_browser=open_browser,
    )


def _serve(
    make: Callable[[], Any],
    title: str,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    password: str | None = None,
    open_browser: bool = False,
) -> None:
    try:
        with (
            _ended_by_signals(),
            server.serving(make, host=host, port=port, password=password) as url,
        ):
            print(f"{title}: {url} (Ctrl-C ends it)", flush=True)
            if open_browser:
                webbrowser.open(url)
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        pass


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM, and the end of the terminal, end the block as an error would.

    By themselves they end the process at once, and uploads would stay.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return

    def end(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    names = ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def explore(trained: "TrainedModel", data: DataOptions | None = None, **options: Any) -> None:
    """Serve the page of a run directory or a model file until Ctrl-C.

    Args:
        trained: the model, of images or of a table; with its run's validation images or rows, if
            it is a run's.
        data: other images or rows.
        **options: those of `launch`, but `title`.

    Raises:
        InputError: as `launch`, if the model is one of other events, or if the run's data cannot be
            read.
    """
    config = trained.config
    place = trained.path if config is None else trained.path.parent
    title = f"tfvae explore {place.name}"
    if trained.schema is not None and not trained.has_codes:
        rows = RowModel(trained.vae, trained.schema)
        some = Rows.of_run(trained, rows, data)
        _serve(lambda: row_page(rows, some, title=title), title, **options)
        return
    check_images(trained.vae)
    if trained.has_codes:
        coded = CodeModel(trained.vae)
        images = Examples.of_run(trained, coded, data)
        _serve(lambda: code_page(coded, images, title=title), title, **options)
        return
    model = CompiledVAE(trained.vae, dequantized=config is not None and config.dequantize)
    examples = Examples.of_run(trained, model, data)
    launch(model, examples, title=title, **options)


class _Explorer(Parts):
    """The parts of one page, each laid out and wired by a method of its own."""

    def __init__(self, gr: Any, model: LatentModel, examples: Examples):
        super().__init__(gr)
        self._model = model
        self._examples = examples
        self._dimensions = examples.most_active(model, _MOST_SLIDERS)

    def lay_out(self, title: str) -> None:
        """Put the parts in their places."""
        gr, model = self.gr, self._model
        height, width, channels = model.image_shape
        facts = f"images {height} x {width} x {channels}, {model.latent_dim} latent dimensions"
        if model.num_classes is not None:
            facts += f", conditional on {model.num_classes} labels"
        facts += f"; {len(self._examples.images):,} {self._examples.name}"
        self.title(title, facts)
        with gr.Row():
            with gr.Column(min_width=380):
                shown, at = self._sliders()
            with gr.Column(min_width=380):
                self._map(shown, at)
        with gr.Row():
            with gr.Column(min_width=320, scale=2):
                self._samples()
            with gr.Column(min_width=380, scale=3):
                self._reconstruction()
        self._interpolation()

    # --- the parts ------------------------------------------------------------------------------

    def _sliders(self) -> tuple[list[Any], Callable[..., list[Any]]]:
        """Lay out the sliders.

        Returns:
            The controls that show a label and z, and the function that gives what they show.
        """
        gr, model, dimensions = self.gr, self._model, self._dimensions

        def walk(z: np.ndarray, label: int | None, *values: float) -> str:
            moved = z.copy()
            moved[dimensions] = values
            return views.decoded(model, moved, label)

        def at(z: np.ndarray, label: int | None) -> list[Any]:
            # What sliders cannot show, the picture does not show either.
            values = np.clip(z[dimensions], -views.EXTENT, views.EXTENT).astype(float)
            values = values.round(2).tolist()
            return [label, z, *values, walk(z, label, *values)]

        first = self._example(0)
        _, _, *values, picture = at(self._examples.codes[0], first.label)
        with self.card():
            text = "sliders of the latent dimensions whose codes vary most"
            self.heading("Walk", text)
            z = gr.State(self._examples.codes[0])
            with gr.Row():
                with gr.Column(min_width=200, scale=3):
                    image = self.html(picture, "decoded")
                with gr.Column(min_width=120, scale=2):
                    label = self.label(
                        self._model.num_classes, "label y", "walk", value=first.label
                    )
                    origin = gr.Button("Origin", elem_id="origin")
                    draw = gr.Button("Draw z", elem_id="draw-z")
            sliders = []
            for start in range(0, len(dimensions), 2):
                with gr.Row():
                    sliders += [
                        gr.Slider(
                            -views.EXTENT,
                            views.EXTENT,
                            values[place],
                            step=0.01,
                            label=f"z[{dimensions[place]}]",
                            elem_id=f"slider-{place}",
                            min_width=120,
                            buttons=[],
                        )
                        for place in range(start, min(start + 2, len(dimensions)))
                    ]

        def to_origin(label: int | None) -> list[Any]:
            return at(np.zeros(model.latent_dim, np.float32), label)

        def draw_z(label: int | None) -> list[Any]:
            seed = int(np.random.default_rng().integers(MOST_SEED))
            return at(model.draw(1, views.one_label(model, label), seed)[0], label)

        shown = [label, z, *sliders, image]
        walked = [z, label, *sliders]
        gr.on([one.input for one in sliders], walk, walked, image, **self.live)
        origin.click(to_origin, label, shown, **self.live)
        draw.click(draw_z, label, shown, **self.live)
        if model.num_classes is not None:
            label.input(walk, walked, image, **self.live)
        return shown, at

    def _map(self, shown: list[Any], at: Callable[..., list[Any]]) -> None:
        gr, model, examples = self.gr, self._model, self._examples
        with self.card():
            text = f"{examples.name}; point at one to see it, click to walk from there"
            self.heading("Latent map", text)
            points = views.latent_map(model, examples)
            picture = self.html(points, "map", js_on_load=views.MAP_SCRIPT)

        # Gradio tells by its type that the argument is the event.
        def choose(event: gr.EventData) -> list[Any]:  # type: ignore[name-defined]
            row = examples.row(event.index)
            return at(examples.codes[row], self._example(row).label)

        picture.select(choose, None, shown, **self.live)

    def _samples(self) -> None:
        gr, model = self.gr, self._model
        with self.card():
            self.heading("Samples", "z drawn from the prior, decoded")
            with self.controls():
                seed = gr.Number(0, label="seed", precision=0, min_width=80, elem_id="seed")
                label = self.label(self._model.num_classes, "label y", "samples", some_of_each=True)
                again = gr.Button("New seed", min_width=80, elem_id="new-seed")
            picture = self.html(views.samples(model, 0, None), "samples")

        def draw(seed: int | None, label: int | None) -> str:
            return told(lambda: views.samples(model, checked_seed(seed), label))

        def draw_again(seed: int | None, label: int | None) -> tuple[int, str]:
            following = following_seed(seed)
            return following, draw(following, label)

        seed.input(draw, [seed, label], picture, **self.live)
        again.click(draw_again, [seed, label], [seed, picture], **self.live)
        if model.num_classes is not None:
            label.input(draw, [seed, label], picture, **self.live)

    def _reconstruction(self) -> None:
        gr, model, examples = self.gr, self._model, self._examples
        with self.card():
            text = f"an image of yours, PNG or JPEG, or one of the {examples.name}"
            self.heading("Reconstruction", text)
            with self.controls():
                upload, number, chosen = self._choice("image", 0)
                label = self.label(
                    self._model.num_classes, "label y", "image", value=chosen.value.label
                )
                invert = gr.Checkbox(False, label="invert the upload", min_width=80)
            notes = views.hint(f"An upload is {self._preparation()}.")

            def show(chosen: _Chosen, label: int | None, invert: bool) -> str:
                image = chosen.image
                if chosen.is_upload:
                    image = model.admitted(1 - image if invert else image)
                return told(lambda: views.reconstruction(model, image, label))

            score = self.html(show(chosen.value, label.value, False), "reconstruction")
            self.words(notes)

        def take(data: bytes | None, label: int | None, invert: bool) -> tuple[Any, str]:
            try:
                taken = self._uploaded(data)
            except InputError as error:
                return gr.skip(), views.problem(error)
            return taken, show(taken, label, invert)

        def pick(number: int | None, invert: bool) -> tuple[Any, Any, str]:
            try:
                picked = self._example(number)
            except InputError as error:
                return gr.skip(), gr.skip(), views.problem(error)
            return picked, picked.label, show(picked, picked.label, invert)

        upload.upload(take, [upload, label, invert], [chosen, score], **self.live)
        number.input(pick, [number, invert], [chosen, label, score], **self.live)
        invert.input(show, [chosen, label, invert], score, **self.live)
        if model.num_classes is not None:
            label.input(show, [chosen, label, invert], score, **self.live)

    def _interpolation(self) -> None:
        gr, model = self.gr, self._model
        with self.card():
            text = "the straight line between two codes; at either end the image itself"
            self.heading("Interpolation", text)
            with self.controls():
                ends = [
                    self._choice("first", 0),
                    self._choice("second", min(1, len(self._examples.images) - 1)),
                ]
                label = self.label(
                    self._model.num_classes, "decode as label", "line", value=ends[0][2].value.label
                )

            def draw(label: int | None, *chosen: _Chosen) -> str:
                images = [
                    model.admitted(one.image) if one.is_upload else one.image for one in chosen
                ]
                known = [label if one.label is None else one.label for one in chosen]
                return views.interpolation(model, images, known, label)

            chosen = [state for _, _, state in ends]
            picture = self.html(
                draw(label.value, *(state.value for state in chosen)), "interpolation"
            )

        def change(find: Callable[[Any], _Chosen], at: int) -> Callable[..., tuple[Any, str]]:
            def changed(given: Any, label: int | None, *now: _Chosen) -> tuple[Any, str]:
                try:
                    found = find(given)
                except InputError as error:
                    return gr.skip(), views.problem(error)
                return found, draw(label, *now[:at], found, *now[at + 1 :])

            return changed

        for at, (upload, number, state) in enumerate(ends):
            shown = [state, picture]
            upload.upload(change(self._uploaded, at), [upload, label, *chosen], shown, **self.live)
            number.input(change(self._example, at), [number, label, *chosen], shown, **self.live)
        if model.num_classes is not None:
            label.input(draw, [label, *chosen], picture, **self.live)

    # --- what the parts share -------------------------------------------------------------------

    def _choice(self, name: str, row: int) -> tuple[Any, Any, Any]:
        """Return the controls to choose an image, and the state of the one that is chosen."""
        gr = self.gr
        number = gr.Number(
            row, label=f"{name}: no.", precision=0, min_width=90, elem_id=f"number-{name}"
        )
        upload = gr.UploadButton(
            f"Upload {name}", type="binary", min_width=110, elem_id=f"upload-{name}"
        )
        return upload, number, gr.State(self._example(row))

    def _example(self, number: Any) -> "_Chosen":
        row = self._examples.row(number)
        labels = self._examples.condition(self._model, slice(None))
        label = None if labels is None else int(labels[row])
        return _Chosen(self._examples.images[row], label)

    def _uploaded(self, data: bytes | None) -> "_Chosen":
        pictures = self._examples.pictures or PictureOptions()
        image = decode_image(
            data or b"",
            self._model.image_shape,
            binarize=self._examples.binarized,
            background=pictures.background,
            value_range=pictures.value_range,
        )
        return _Chosen(image, None, is_upload=True)

    def _preparation(self) -> str:
        """Say what is done to an upload."""
        height, width, channels = self._model.image_shape
        done = [f"resized to {height} x {width}"]
        if channels == 1:
            done.append("made grey")
        done.append("scaled to [0, 1]")
        if self._examples.binarized:
            done.append("cut at one half, as the images of the run are binarized")
        return ", ".join(done)


@dataclasses.dataclass(frozen=True, eq=False)
class _Chosen:
    """An image `[H, W, C]` on the page, and its label where the model takes one and it is known."""

    image: np.ndarray
    label: int | None
    is_upload: bool = False
