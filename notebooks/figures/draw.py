"""Draw the diagrams of the notebooks.

    python notebooks/figures/draw.py [FOLDER]

writes NAME.svg for each of them, by default beside this script. Text becomes outlines, so that a
diagram looks the same wherever it is shown. Colours mean one thing throughout: blue is what the
encoder makes, green the latent vector, orange the decoder, grey the data, and red what is minimised
or goes wrong.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

FOLDER = Path(__file__).parent
INK = "#1f2933"
DATA = ("#eef1f4", "#7b8794")
ENCODER = ("#dbe9fb", "#2f6fb7")
LATENT = ("#d9f2e3", "#23895a")
DECODER = ("#fdebd3", "#c4761b")
LOSS = ("#fbdfdd", "#c0392b")
NOISE = ("#ece4f7", "#7a4fb3")
PLAIN = ("#ffffff", "#7b8794")
STYLE = {
    "svg.fonttype": "path",
    "svg.hashsalt": "tfvae",  # the same drawing is the same file
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "cm",
    "text.color": INK,
}
Colours = tuple[str, str]
Point = tuple[float, float]


class Diagram:
    """A white sheet of so many points, from the lower left corner, and what is drawn on it."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = plt.figure(figsize=(width / 72, height / 72), facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.set_axis_off()

    def text(self, at: Point, text: str, size: float = 11, **options: object) -> None:
        """Write a text, centred if nothing else is said."""
        options = {"ha": "center", "va": "center", **options}
        self.axes.text(*at, text, fontsize=size, zorder=4, linespacing=1.45, **options)

    def box(
        self,
        at: Point,
        size: Point,
        text: str = "",
        colours: Colours = PLAIN,
        font: float = 11,
        **options: object,
    ) -> None:
        """Draw a box with round corners about a point, and a text in it."""
        (x, y), (width, height) = at, size
        shape = FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=6",
            facecolor=colours[0],
            edgecolor=colours[1],
            linewidth=1.4,
            zorder=2,
            **options,
        )
        self.axes.add_patch(shape)
        self.text(at, text, font)

    def funnel(
        self, at: Point, width: float, left: float, right: float, text: str, colours
    ) -> None:
        """Draw a network that narrows or widens, from a height on its left to one on its right."""
        x, y = at
        corners = [
            (x - width / 2, y - left / 2),
            (x - width / 2, y + left / 2),
            (x + width / 2, y + right / 2),
            (x + width / 2, y - right / 2),
        ]
        self.axes.add_patch(
            Polygon(
                corners,
                facecolor=colours[0],
                edgecolor=colours[1],
                linewidth=1.4,
                joinstyle="round",
                zorder=2,
            )
        )
        self.text(at, text)

    def node(self, at: Point, text: str, colours: Colours = PLAIN, radius: float = 21) -> None:
        """Draw a variable as a circle."""
        self.axes.add_patch(
            Circle(at, radius, facecolor=colours[0], edgecolor=colours[1], linewidth=1.6, zorder=2)
        )
        self.text(at, text, 15)

    def arrow(self, start: Point, end: Point, colour: str = INK, **options: object) -> None:
        """Draw an arrow."""
        options = {"arrowstyle": "-|>", "linewidth": 1.5, "zorder": 3, **options}
        self.axes.add_patch(
            FancyArrowPatch(
                start, end, mutation_scale=12, color=colour, shrinkA=0, shrinkB=0, **options
            )
        )

    def picture(self, at: Point, side: float, pixels: np.ndarray) -> None:
        """Draw a grey image as little squares."""
        (x, y), count = at, len(pixels)
        edges = np.linspace(-side / 2, side / 2, count + 1)
        self.axes.pcolormesh(
            x + edges, y - edges, pixels, cmap="gray", vmin=0, vmax=1, edgecolors="face", lw=0.7
        )
        self.box(at, (side + 4, side + 4), colours=("none", DATA[1]))


def digit() -> tuple[np.ndarray, np.ndarray]:
    """Return an image of a digit, and what is left of it after it went through six numbers."""
    images = load_digits().data / 16
    pca = PCA(6, random_state=0).fit(images)
    image = images[[2]]
    back = pca.inverse_transform(pca.transform(image))
    return image.reshape(8, 8), np.clip(back, 0, 1).reshape(8, 8)


def autoencoder() -> Diagram:
    """Draw the three parts of an autoencoder."""
    sheet, (image, back) = Diagram(660, 250), digit()
    level = 155
    sheet.picture((65, level), 84, image)
    sheet.text((65, 223), "$x$, the data", 12)
    sheet.funnel((205, level), 110, 110, 46, "encoder", ENCODER)
    sheet.box((330, level), (46, 46), "$z$", LATENT, 18)
    sheet.text((330, 223), "the code: few numbers", 12)
    sheet.funnel((455, level), 110, 46, 110, "decoder", DECODER)
    sheet.picture((595, level), 84, back)
    sheet.text((578, 223), r"$\hat{x}$, the reconstruction", 12)
    for start, end in ((110, 148), (262, 305), (354, 398), (512, 550)):
        sheet.arrow((start, level), (end, level))
    sheet.box((330, 42), (330, 44), "loss: how much of $x$ was lost on the way", LOSS)
    sheet.arrow((65, 109), (163, 42), connectionstyle="angle,angleA=90,angleB=0,rad=8")
    sheet.arrow((595, 109), (497, 42), connectionstyle="angle,angleA=90,angleB=0,rad=8")
    return sheet


def vae() -> Diagram:
    """Draw a VAE with its tensors' shapes."""
    sheet, (image, back) = Diagram(840, 390), digit()
    level = 275

    def shape(x: float, y: float, text: str) -> None:
        sheet.text((x, y), text, 9.5, family="DejaVu Sans Mono", color="#52606d")

    sheet.picture((60, level), 76, image)
    sheet.text((60, 336), "$x$", 15)
    shape(60, 220, "[B, H, W, C]")
    sheet.funnel((182, level), 92, 104, 70, "encoder", ENCODER)
    sheet.text((182, 350), r"$q(z|x)$", 14)
    sheet.box((302, level + 34), (64, 38), r"$\mu$", ENCODER, 16)
    sheet.box((302, level - 34), (64, 38), r"$\log\,\sigma^2$", ENCODER, 13)
    shape(302, 345, "[B, d]")
    shape(302, 209, "[B, d]")
    sheet.box((452, level), (130, 46), r"$z = \mu + \sigma \odot \varepsilon$", LATENT, 14)
    shape(452, 240, "[B, d]")
    sheet.box((452, level + 76), (130, 36), r"$\varepsilon \sim \mathcal{N}(0, I)$", NOISE, 13)
    sheet.funnel((605, level), 92, 70, 104, "decoder", DECODER)
    sheet.text((605, 350), r"$p(x|z)$", 14)
    sheet.picture((752, level), 76, back)
    sheet.text((752, 336), r"$\pi(z)$, mean of $p(x|z)$", 12)
    shape(752, 220, "[B, H, W, C]")
    sheet.arrow((101, level), (134, level))
    sheet.arrow((230, level + 12), (268, level + 32))
    sheet.arrow((230, level - 12), (268, level - 32))
    sheet.arrow((335, level + 32), (385, level + 10))
    sheet.arrow((335, level - 32), (385, level - 10))
    sheet.arrow((452, level + 57), (452, level + 24))
    sheet.arrow((518, level), (557, level))
    sheet.arrow((653, level), (711, level))

    sheet.box((302, 140), (190, 46), r"$\mathrm{KL}(q(z|x)\,\|\,p(z))$", LATENT, 13)
    sheet.text((196, 140), "prior\n$p(z) = \\mathcal{N}(0, I)$", 10, ha="right")
    sheet.box((645, 140), (190, 46), r"$\log\,p(x|z)$", DECODER, 13)
    shape(418, 140, "[B]")
    shape(530, 140, "[B]")
    sheet.arrow((302, 198), (302, 165))
    sheet.arrow((752, 208), (690, 165))
    sheet.box((474, 50), (300, 50), r"$\mathrm{ELBO} = \log\,p(x|z) - \mathrm{KL}$", PLAIN, 14)
    shape(640, 50, "[B]")
    sheet.arrow((330, 116), (400, 77))
    sheet.arrow((640, 116), (560, 77))
    sheet.box((150, 50), (200, 50), "loss = −mean of the ELBO", LOSS)
    shape(150, 14, "[]")
    sheet.arrow((323, 50), (252, 50))
    return sheet


def plate_model() -> Diagram:
    """Draw the model as a plate: N pairs of z and x."""
    sheet = Diagram(600, 300)
    sheet.box((225, 152), (190, 264), colours=("#fbfcfd", DATA[1]))
    sheet.text((225, 40), "$N$ events, one $z$ for each", 9.5)
    sheet.node((225, 215), "$z$", LATENT, 26)
    sheet.node((225, 95), "$x$", ("#cbd2d9", DATA[1]), 26)
    sheet.arrow((225, 188), (225, 123), DECODER[1])
    sheet.node((60, 95), r"$\theta$", DECODER, 18)
    sheet.arrow((79, 95), (197, 95), DECODER[1])
    sheet.node((390, 155), r"$\varphi$", ENCODER, 18)
    dashed = {"linestyle": (0, (5, 3)), "linewidth": 1.5}
    sheet.arrow((246, 113), (246, 199), ENCODER[1], connectionstyle="arc3,rad=0.5", **dashed)
    sheet.arrow((371, 155), (270, 155), ENCODER[1], **dashed)
    sheet.text((217, 155), r"$p_\theta(x|z)$", 12, ha="right", color=DECODER[1])
    sheet.text((415, 238), r"prior  $p(z) = \mathcal{N}(0, I)$", 12, ha="left", color=LATENT[1])
    sheet.text((415, 155), "weights of the\nencoder $q_\\varphi(z|x)$", 10.5, ha="left")
    sheet.text((60, 58), "weights of\nthe decoder", 10.5)
    sheet.text((415, 95), "grey: observed,\ngreen: not observed", 10.5, ha="left")
    sheet.text((415, 45), "solid: how $x$ is made,\ndashed: how $z$ is inferred", 10.5, ha="left")
    sheet.arrow((408, 236), (253, 220), LATENT[1], linewidth=0.9, arrowstyle="-")
    return sheet


def reparameterisation() -> Diagram:
    """Draw where the gradient stops at a draw, and where it passes."""
    sheet = Diagram(780, 350)
    for left, title in ((0, "a draw in the way"), (400, "the noise comes from outside")):
        sheet.text((left + 190, 330), title, 13, weight="bold")
        sheet.box((left + 190, 165), (360, 290), colours=("#fbfcfd", "#d5dae0"))
        sheet.box((left + 190, 282), (120, 38), r"loss  $f(z)$", LOSS, 12)
        sheet.node((left + 190, 182), "$z$", LATENT, 25)
        sheet.box((left + 190, 70), (150, 40), r"$\mu_\varphi(x),\ \sigma_\varphi(x)$", ENCODER, 14)
        sheet.arrow((left + 180, 206), (left + 180, 262))
        sheet.arrow((left + 202, 262), (left + 202, 206), LOSS[1], linestyle=(0, (4, 2)))
        sheet.text((left + 212, 236), r"$\partial f/\partial z$", 12, ha="left", color=LOSS[1])
        sheet.arrow((left + 180, 91), (left + 180, 158))
    # On the left: z itself is random, and has no derivative by its parameters.
    sheet.text((168, 124), r"$z \sim \mathcal{N}(\mu, \sigma^2)$", 13, ha="right")
    sheet.arrow((202, 157), (202, 133), LOSS[1], linestyle=(0, (4, 2)), arrowstyle="-")
    for sign in (-1, 1):
        sheet.arrow(
            (194, 126 - 8 * sign), (210, 126 + 8 * sign), LOSS[1], arrowstyle="-", linewidth=2.4
        )
    sheet.text((220, 126), "blocked: a draw\nhas no derivative", 10.5, ha="left", color=LOSS[1])
    # On the right: z is a function of its parameters, and of noise that does not depend on them.
    sheet.text((568, 124), r"$z = \mu + \sigma \varepsilon$", 14, ha="right")
    sheet.arrow((602, 158), (602, 91), LOSS[1], linestyle=(0, (4, 2)))
    sheet.text(
        (612, 124),
        r"$\partial z/\partial\mu = 1,\ \ \partial z/\partial\sigma = \varepsilon$",
        12,
        ha="left",
        color=LOSS[1],
    )
    sheet.node((475, 182), r"$\varepsilon$", NOISE, 21)
    sheet.arrow((497, 182), (564, 182))
    sheet.text((475, 222), r"$\mathcal{N}(0, 1)$", 12)
    sheet.arrow((238, 34), (268, 34))
    sheet.text((274, 34), "values", 10, ha="left")
    sheet.arrow((668, 34), (638, 34), LOSS[1], linestyle=(0, (4, 2)))
    sheet.text((674, 34), "gradient", 10, ha="left", color=LOSS[1])
    return sheet


def generative_models() -> Diagram:
    """Draw the map of generative models."""
    sheet = Diagram(820, 350)
    sheet.box((410, 315), (220, 40), "generative models", DATA, 13)
    sheet.box((285, 235), (250, 46), "explicit: there is a density $p(x)$", ENCODER)
    sheet.box((700, 235), (190, 46), "implicit: there are\nonly draws of $x$", DECODER)
    sheet.arrow((410, 294), (285, 259), connectionstyle="arc3,rad=0")
    sheet.arrow((410, 294), (700, 259), connectionstyle="arc3,rad=0")
    columns = (
        (
            105,
            "computed exactly",
            "autoregressive models,\nnormalizing flows",
            ENCODER,
            r"$\log\,p(x)$",
        ),
        (290, "bounded from below", "VAE, diffusion", LATENT, r"$\mathrm{ELBO} \leq \log\,p(x)$"),
        (
            490,
            "known but for a constant",
            "energy-based models",
            ENCODER,
            r"$\log\,p(x) + \mathrm{const.}$",
        ),
        (700, "learnt by a game", "GAN", DECODER, "nothing"),
    )
    for x, how, which, colours, gives in columns:
        sheet.text((x, 172), how, 10.5, style="italic")
        sheet.box((x, 125), (172, 52), which, colours, 11)
        sheet.text((x, 70), gives, 12 if "$" in gives else 10.5)
        start = 700 if x == 700 else 285
        sheet.arrow((start, 211), (x, 184))
    sheet.text(
        (410, 24),
        "Lowest row: what a model of this kind tells of one $x$. All of them make new $x$.",
        10.5,
    )
    return sheet


def ladder() -> Diagram:
    """Draw a hierarchy of two groups: features go up, latents come down."""
    sheet = Diagram(720, 380)
    sheet.text((150, 358), "bottom up: the encoder, no noise", 11.5, color=ENCODER[1])
    sheet.text((500, 358), "top down: the model", 11.5, color=DECODER[1])
    sheet.node((150, 50), "$x$", ("#cbd2d9", DATA[1]), 24)
    sheet.box((150, 160), (100, 44), "$h_2$", ENCODER, 15)
    sheet.box((150, 290), (100, 44), "$h_1$", ENCODER, 15)
    sheet.arrow((150, 75), (150, 136), ENCODER[1])
    sheet.arrow((150, 183), (150, 266), ENCODER[1])
    sheet.node((430, 290), "$z_1$", LATENT, 24)
    sheet.node((430, 160), "$z_2$", LATENT, 24)
    sheet.box((580, 225), (100, 40), "state $s_2$", DECODER, 12)
    sheet.box((500, 50), (110, 44), r"$p(x|z_1, z_2)$", DECODER, 13)
    dashed = {"linestyle": (0, (5, 3))}
    sheet.arrow((201, 290), (404, 290), ENCODER[1], **dashed)
    sheet.text((300, 304), r"$q(z_1|x)$", 12.5, color=ENCODER[1])
    sheet.arrow((201, 160), (404, 160), ENCODER[1], **dashed)
    sheet.text((295, 174), r"$q(z_2|z_1, x)$", 12.5, color=ENCODER[1])
    sheet.arrow((453, 281), (545, 247), DECODER[1])
    sheet.arrow((545, 203), (454, 169), DECODER[1])
    sheet.text((515, 168), r"$p(z_2|z_1)$", 12.5, color=DECODER[1])
    sheet.text((520, 306), r"$p(z_1) = \mathcal{N}(0, I)$", 12.5, color=DECODER[1])
    sheet.arrow((442, 138), (482, 74), DECODER[1])
    sheet.arrow((580, 204), (530, 74), DECODER[1])
    sheet.text(
        (300, 255), r"$\mathrm{KL}_1 = \mathrm{KL}(q(z_1|x)\,\|\,p(z_1))$", 11.5, color=LOSS[1]
    )
    sheet.text(
        (300, 122),
        r"$\mathrm{KL}_2 = \mathrm{KL}(q(z_2|z_1,x)\,\|\,p(z_2|z_1))$",
        11.5,
        color=LOSS[1],
    )
    sheet.text(
        (300, 18), r"$\mathrm{ELBO} = \log\,p(x|z_1, z_2) - \mathrm{KL}_1 - \mathrm{KL}_2$", 12.5
    )
    return sheet


DIAGRAMS: dict[str, Callable[[], Diagram]] = {
    one.__name__: one
    for one in (autoencoder, vae, plate_model, reparameterisation, generative_models, ladder)
}


def main(folder: Path = FOLDER) -> None:
    """Write all diagrams into a folder."""
    for name, draw in DIAGRAMS.items():
        with plt.rc_context(STYLE):
            sheet = draw()
            sheet.figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
            plt.close(sheet.figure)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
