"""What the pages are made of."""

from collections.abc import Callable
from typing import Any

from tfvae.app import views
from tfvae.errors import InputError

MOST_SEED = 2**31 - 1


class Parts:
    """Makes the parts of a page.

    Args:
        gr: gradio.

    Attributes:
        gr: gradio.
        live: options of an event: the cheapest way from a control to the page and back, without a
            queue and progress to draw. Controls that move on before the answer has come are asked
            again once, for the last. Nothing is offered to other programs.
    """

    def __init__(self, gr: Any):
        self.gr = gr
        self.live = {
            "queue": False,
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "api_visibility": "private",
        }

    def lay_out(self, title: str) -> None:
        """Put the parts of a page in their places."""
        raise NotImplementedError

    def page(self, title: str) -> Any:
        """Return the page, a `gradio.Blocks`."""
        with self.gr.Blocks(title=title, analytics_enabled=False, delete_cache=(60, 600)) as blocks:
            self.lay_out(title)
        return blocks

    def title(self, title: str, facts: str) -> None:
        """Lay out the head of the page."""
        self.words(
            f"<style>{views.STYLE}</style><h2>{views.escaped(title)}</h2>{views.hint(facts)}"
        )

    def heading(self, title: str, text: str) -> None:
        """Lay out the head of a part."""
        self.words(f"<h3>{views.escaped(title)}</h3>{views.hint(text)}")

    def card(self) -> Any:
        """Return the frame of a part."""
        return self.gr.Column(elem_classes="tfvae-card")

    def controls(self) -> Any:
        """Return a row for controls."""
        return self.gr.Row(elem_classes="tfvae-controls")

    def label(
        self,
        classes: int | None,
        name: str,
        part: str,
        *,
        value: int | None = 0,
        some_of_each: bool = False,
    ) -> Any:
        """Return the control for a label; for a model without, a state that is always None."""
        if classes is None:
            return self.gr.State(None)
        choices: list[Any] = [(str(label), label) for label in range(classes)]
        if some_of_each:
            choices, value = [("some of each", -1), *choices], -1
        return self.gr.Dropdown(
            choices, value=value, label=name, min_width=110, elem_id=f"label-{part}"
        )

    def words(self, text: str) -> None:
        """Lay out HTML that stays as it is."""
        self.gr.HTML(text, elem_classes="tfvae", apply_default_css=False)

    def html(self, value: str, name: str, **options: Any) -> Any:
        """Return HTML that controls change."""
        options.setdefault("js_on_load", None)
        return self.gr.HTML(value, elem_id=name, elem_classes="tfvae", padding=True, **options)


def told(show: Callable[[], str]) -> str:
    """Return what is to be shown, or else what was wrong."""
    try:
        return show()
    except InputError as error:
        return views.problem(error)


def checked_seed(number: Any) -> int:
    """Return the seed that a visitor gave.

    Raises:
        InputError: if it is none.
    """
    if number is None or not 0 <= number <= MOST_SEED:
        received = "none" if number is None else number
        raise InputError(f"a seed is a whole number from 0 to {MOST_SEED}; received {received}")
    return int(number)


def following_seed(number: Any) -> int:
    """Return the seed after one that a visitor gave, 0 after one that is none."""
    return 0 if number is None or not 0 <= number < MOST_SEED else int(number) + 1
