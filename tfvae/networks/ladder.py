"""Networks of hierarchies: a bottom-up encoder, and the steps of the way down.

The encoder gives features for each group of latents, those of the lowest first on its way up. The
way down has a state: a step adds a group's z to it, and the last step makes of it the features of
p(x|z). Where the state is a vector the layers are dense; where it is a map, `[*sides, channels]`,
they are convolutions. All blocks are residual, and start as the identity.
"""

import abc
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, SupportsIndex, TypeAlias

import keras
from keras import layers

from tfvae.checks import MOST_UNITS, checked_count
from tfvae.distributions.family import resolve
from tfvae.errors import InputError
from tfvae.networks.checks import (
    check_event_shape,
    check_latent_dim,
    check_num_classes,
    check_seed,
)
from tfvae.networks.initial import initializers
from tfvae.networks.labels import Initializers, Inputs, event_input
from tfvae.networks.names import Sizes, checked_activation, checked_sizes
from tfvae.networks.sides import Halving, convolved, default_filters, doubled, halvings, sides_of
from tfvae.typing import Shape

# How many groups; or each group's shape, topmost first, as numbers or text such as "16,7x7x4".
Groups: TypeAlias = "int | str | Sequence[int | Sequence[int]]"

_MOST_GROUPS = 1000


class Ladder(NamedTuple):
    """The networks of a hierarchy of L groups; what each takes and puts out is in `TopDown`.

    Attributes:
        encoder: from an event to a list of L features, the topmost group's first.
        steps: L models of the way down.
        priors: L − 1 models from a state to what p(z_l|z_<l) is made from.
        posteriors: L − 1 models from a state and features to what q(z_l|z_<l, x) is made from.
    """

    encoder: keras.Model
    steps: list[keras.Model]
    priors: list[keras.Model]
    posteriors: list[keras.Model]


class LadderNetwork(abc.ABC):
    """The networks of a hierarchy, as a name with options means them."""

    def groups(
        self, groups: Groups, event_shape: Iterable[SupportsIndex], latent_dim: int
    ) -> tuple[Shape, ...]:
        """Return the shape of each group, topmost first.

        Args:
            groups: L, for so many vectors; or the shapes, as in (16, (7, 7, 4)) or
                ``"16,7x7x4"``. A number alone is the size of a vector.
            event_shape: (D,), (T, C), (H, W, C) or (D, H, W, C).
            latent_dim: size of the vectors, where their sizes are left open.

        Raises:
            InputError: if they do not fit each other or the network.
        """
        shape = check_event_shape(event_shape)
        count = _count(groups)
        if count is None:
            found = tuple(map(_shape_of, _each(groups)))
        else:
            found = ((check_latent_dim(latent_dim),),) * count
        self._check_groups(found, shape)
        return found

    @abc.abstractmethod
    def _check_groups(self, groups: tuple[Shape, ...], event_shape: Shape) -> None:
        """Refuse groups that the network has no place for."""

    @abc.abstractmethod
    def make(
        self,
        event_shape: Shape,
        seen_shape: Shape,
        groups: tuple[Shape, ...],
        *,
        num_classes: int | None = None,
        seed: int | None = None,
    ) -> Ladder:
        """Build the networks.

        Args:
            event_shape: (D,), (T, C), (H, W, C) or (D, H, W, C).
            seen_shape: of what the encoder takes, whose last axis may be longer.
            groups: what `groups` returned, two shapes or more.
            num_classes: labels, for networks that take one.
            seed: seed of the initial weights.
        """


class DenseLadder(LadderNetwork):
    """Dense layers and groups that are vectors, as in ``"dense:hidden=200x200,blocks=2"``.

    Args:
        hidden: widths, from the event inwards; the last is that of all states.
        blocks: residual blocks of each group, on the way up and on the way down.
        activation: a Keras activation.

    Raises:
        InputError: if an option is none of these.
    """

    def __init__(self, hidden: Sizes = (512, 256), blocks: int = 1, activation: str = "silu"):
        self.hidden = checked_sizes("hidden", hidden)
        self.blocks = checked_count("blocks", blocks, least=0, most=1000)
        self.activation = checked_activation(activation)

    def _check_groups(self, groups: tuple[Shape, ...], event_shape: Shape) -> None:
        for shape in groups:
            if len(shape) != 1:
                raise InputError(
                    f'groups of network "dense" are vectors, such as 16; received {shape}: take '
                    "vectors, or another network"
                )

    def make(
        self,
        event_shape: Shape,
        seen_shape: Shape,
        groups: tuple[Shape, ...],
        *,
        num_classes: int | None = None,
        seed: int | None = None,
    ) -> Ladder:
        """Build the networks; see `LadderNetwork.make`."""
        weights = initializers(seed)
        builder = _Builder(self.activation, self.blocks, weights)
        inputs, x = event_input(seen_shape, num_classes, weights)
        x = layers.Flatten()(x)
        for width in self.hidden:
            x = builder.dense(x, width)
        features = builder.up(x, len(groups))
        encoder = keras.Model(inputs, features, name="dense_ladder")

        width = self.hidden[-1]
        steps, priors, posteriors = [], [], []
        for number, (size,) in enumerate(groups):
            if number:
                state, z = keras.Input((width,), name="state"), keras.Input((size,), name="z")
                step_inputs: Inputs = [state, z]
                x = builder.merged(state, z)
                priors.append(builder.prior((width,)))
                posteriors.append(builder.posterior((width,)))
            else:
                step_inputs, x = _first_input((size,), num_classes, weights)
                x = builder.dense(x, width)
            if number < len(groups) - 1:
                x = builder.blocks_of(x)
            else:
                x = layers.Activation(self.activation)(x)
                for outer in reversed(self.hidden[:-1]):
                    x = builder.dense(x, outer)
            steps.append(keras.Model(step_inputs, x, name=f"step_{number + 1}"))
        return Ladder(encoder, steps, priors, posteriors)


class ConvLadder(LadderNetwork):
    """Convolutions, and groups that are vectors or maps: ``"conv:filters=16x64,blocks=2"``.

    The encoder halves the sides as `conv_encoder` does. A group may be a vector, or a map whose
    sides are those after one of the halvings; groups go from vectors and small maps to large ones.

    Args:
        filters: channels of each halving; None for `default_filters`.
        hidden: width of states that are vectors.
        blocks: residual blocks of each group, on the way up and on the way down. One costs a
            third of a step.
        activation: a Keras activation.

    Raises:
        InputError: if an option is none of these.
    """

    def __init__(
        self,
        filters: Sizes | None = None,
        hidden: int = 256,
        blocks: int = 0,
        activation: str = "silu",
    ):
        self.filters = None if filters is None else checked_sizes("filters", filters)
        self.hidden = checked_count("hidden", hidden, most=MOST_UNITS)
        self.blocks = checked_count("blocks", blocks, least=0, most=1000)
        self.activation = checked_activation(activation)

    def _stages(self, event_shape: Shape) -> tuple[tuple[int, ...], list[Halving]]:
        sides = sides_of(event_shape, "conv")
        filters = tuple(self.filters or default_filters(event_shape))
        return filters, halvings(sides, len(filters))

    def _check_groups(self, groups: tuple[Shape, ...], event_shape: Shape) -> None:
        self._places(groups, event_shape)

    def _places(self, groups: tuple[Shape, ...], event_shape: Shape) -> list[int]:
        """Return after which halving each group stands, from 0; a vector after one more."""
        _, stages = self._stages(event_shape)
        known = {(): len(stages)} | {stage.after: place for place, stage in enumerate(stages)}
        places = []
        for shape in groups:
            if shape[:-1] not in known:
                sides = ", ".join("x".join(map(str, (*one.after, "C"))) for one in stages[::-1])
                raise InputError(
                    f"a group of latents of events {list(event_shape)} is a vector or a map of "
                    f"{sides}; received {'x'.join(map(str, shape))}"
                )
            places.append(known[shape[:-1]])
        if places != sorted(places, reverse=True):
            raise InputError(
                "groups go from vectors and small maps to large ones; received "
                + ",".join("x".join(map(str, shape)) for shape in groups)
            )
        return places

    def make(
        self,
        event_shape: Shape,
        seen_shape: Shape,
        groups: tuple[Shape, ...],
        *,
        num_classes: int | None = None,
        seed: int | None = None,
    ) -> Ladder:
        """Build the networks; see `LadderNetwork.make`."""
        filters, stages = self._stages(event_shape)
        places = self._places(groups, event_shape)
        weights = initializers(seed)
        builder = _Builder(self.activation, self.blocks, weights)
        encoder = self._encoder(seen_shape, filters, stages, places, num_classes, builder)
        steps, priors, posteriors = [], [], []
        path = _Path(filters, stages, self.hidden, builder)
        for number, (shape, place) in enumerate(zip(groups, places, strict=True)):
            if number:
                state_shape = path.shape(place)
                state, z = keras.Input(state_shape, name="state"), keras.Input(shape, name="z")
                step_inputs: Inputs = [state, z]
                x = builder.merged(state, z)
                priors.append(builder.prior(state_shape))
                posteriors.append(builder.posterior(state_shape))
            else:
                step_inputs, x = _first_input(shape, num_classes, weights)
                x = path.first(x, place)
            x = builder.blocks_of(x)
            if number < len(groups) - 1:
                x = path.down(x, place, places[number + 1])
            else:
                x = path.down(x, place, -1)
            steps.append(keras.Model(step_inputs, x, name=f"step_{number + 1}"))
        return Ladder(encoder, steps, priors, posteriors)

    def _encoder(
        self,
        seen_shape: Shape,
        filters: tuple[int, ...],
        stages: list[Halving],
        places: list[int],
        num_classes: int | None,
        builder: "_Builder",
    ) -> keras.Model:
        inputs, x = event_input(seen_shape, num_classes, builder.weights)
        features: list[keras.KerasTensor] = []
        for place, (channels, stage) in enumerate(zip(filters, stages, strict=True)):
            x = builder.convolution(x, channels, stage)
            here = builder.up(x, places.count(place))
            features = here + features
            x = here[0] if here else x
        vectors = places.count(len(stages))
        if vectors:
            x = builder.dense(layers.Flatten()(x), self.hidden)
            features = builder.up(x, vectors) + features
        return keras.Model(inputs, features, name="conv_ladder")


class _Builder:
    """Builds layers on vectors and maps, with initial weights one after the other."""

    def __init__(self, activation: str, blocks: int, weights: Initializers):
        self.activation, self.blocks, self.weights = activation, blocks, weights

    def active(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.Activation(self.activation)(x)

    def dense(
        self, x: keras.KerasTensor, width: int, activation: str | None = ""
    ) -> keras.KerasTensor:
        """Apply a dense layer, of a map at each place by itself."""
        activation = self.activation if activation == "" else activation
        return layers.Dense(width, activation=activation, kernel_initializer=next(self.weights))(x)

    def convolution(self, x: keras.KerasTensor, channels: int, stage: Halving) -> keras.KerasTensor:
        return convolved(
            x, channels, next(self.weights), strides=stage.strides, activation=self.activation
        )

    def mixed(self, x: keras.KerasTensor, width: int) -> keras.KerasTensor:
        """Return `width` active features of active ones: of a map, those of its neighbourhoods."""
        if len(x.shape) == 2:
            return self.dense(x, width)
        # Few channels first: the kernel of 3 along each side is what costs.
        x = self.dense(x, _squeezed(x.shape[-1]))
        return convolved(x, width, next(self.weights), activation=self.activation)

    def block(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Add to `x` what two or three layers make of it, which is nothing at the start."""
        width = x.shape[-1]
        branch = self.active(x)
        if len(x.shape) == 2:
            branch = self.dense(branch, width)
        else:
            few = _squeezed(width)
            branch = convolved(
                self.dense(branch, few), few, next(self.weights), activation=self.activation
            )
        branch = layers.Dense(width, kernel_initializer="zeros")(branch)
        return layers.Add()([x, branch])

    def blocks_of(self, x: keras.KerasTensor) -> keras.KerasTensor:
        for _ in range(self.blocks):
            x = self.block(x)
        return x

    def up(self, x: keras.KerasTensor, count: int) -> list[keras.KerasTensor]:
        """Return features for so many groups on the way up, the topmost group's first."""
        found: list[keras.KerasTensor] = []
        for _ in range(count):
            x = self.blocks_of(x)
            found.insert(0, x)
        return found

    def merged(self, state: keras.KerasTensor, z: keras.KerasTensor) -> keras.KerasTensor:
        return layers.Add()([state, self.dense(z, state.shape[-1], None)])

    def prior(self, state_shape: Shape) -> keras.Model:
        state = keras.Input(state_shape, name="state")
        x = self.mixed(self.active(state), _narrow(state_shape))
        return keras.Model(state, x, name="prior")

    def posterior(self, state_shape: Shape) -> keras.Model:
        state = keras.Input(state_shape, name="state")
        features = keras.Input(state_shape, name="features")
        x = self.active(layers.Concatenate()([state, features]))
        return keras.Model([state, features], self.mixed(x, _narrow(state_shape)), name="posterior")


class _Path:
    """The places of a convolutional ladder: a vector at the top, then maps of ever longer sides."""

    def __init__(
        self, filters: tuple[int, ...], stages: list[Halving], hidden: int, builder: _Builder
    ):
        self._filters, self._stages = filters, stages
        self._hidden, self._builder = hidden, builder

    def shape(self, place: int) -> Shape:
        """Return the shape of a state."""
        if place == len(self._stages):
            return (self._hidden,)
        return (*self._stages[place].after, self._filters[place])

    def first(self, z: keras.KerasTensor, place: int) -> keras.KerasTensor:
        """Return the state of a place that z, with a label, makes."""
        builder = self._builder
        if len(z.shape) == 2:
            return builder.dense(z, self._hidden)
        return convolved(
            z, self._filters[place], next(builder.weights), activation=builder.activation
        )

    def down(self, x: keras.KerasTensor, place: int, to: int) -> keras.KerasTensor:
        """Return the state of a place below; the features of p(x|z) for −1."""
        builder = self._builder
        if place == to:
            return x
        x = builder.active(x)
        if place == len(self._stages):
            place -= 1
            shape = self.shape(place)
            x = builder.dense(builder.dense(x, self._hidden), math.prod(shape))
            x = layers.Reshape(shape)(x)
        while place > to:
            # The mirror image of the way up; the last features are as many as its first.
            channels = self._filters[max(place - 1, 0)]
            last = place - 1 < 0
            # A leaky ReLU costs a sixth of a silu at full size; see `conv_decoder`.
            activation = "leaky_relu" if last else builder.activation
            x = doubled(x, channels, activation, builder.weights, self._stages[place])
            place -= 1
        return x


def _squeezed(channels: int) -> int:
    return max(8, channels // 4)


def _narrow(state_shape: Shape) -> int:
    """Return how many features make a distribution: of a vector as many, of a map half as many."""
    return state_shape[0] if len(state_shape) == 1 else max(8, state_shape[-1] // 2)


def _first_input(
    shape: Shape, num_classes: int | None, weights: Initializers
) -> tuple[Inputs, keras.KerasTensor]:
    """Build the inputs of the first step: z_1, with what a label adds to its last axis."""
    z = keras.Input(shape, name="z")
    if num_classes is None:
        return z, z
    label = keras.Input((num_classes,), name="label")
    if len(shape) == 1:
        return [z, label], layers.Concatenate()([z, label])
    sides = shape[:-1]
    channel = layers.Dense(math.prod(sides), use_bias=False, kernel_initializer=next(weights))
    return [z, label], layers.Concatenate()([z, layers.Reshape((*sides, 1))(channel(label))])


def _count(groups: Groups) -> int | None:
    """Return the number of groups where that is all that is said of them."""
    if isinstance(groups, str) and groups.strip().isdecimal():
        groups = int(groups) if len(groups) < 20 else 0
    if isinstance(groups, (str, list, tuple)):
        return None
    return checked_count("groups", groups, most=_MOST_GROUPS)


def is_one(groups: Groups) -> bool:
    """Whether there is one group alone."""
    count = _count(groups)
    if count is None:
        count = len(_each(groups))
    return count == 1


def single_size(groups: Groups, latent_dim: int) -> int:
    """Return the size of one group alone, which is a vector.

    Raises:
        InputError: if it is a map.
    """
    if _count(groups) is not None:
        return latent_dim
    (shape,) = map(_shape_of, _each(groups))
    if len(shape) != 1:
        raise InputError(f"one group alone is a vector, such as (16,); received {shape}")
    return shape[0]


def _each(groups: Groups) -> "list[str | int | Sequence[int]]":
    """Return what is said of each group."""
    if isinstance(groups, str):
        return list(groups.split(","))
    return [] if isinstance(groups, int) else list(groups)


def _shape_of(group: str | int | Sequence[int]) -> Shape:
    """Return the shape of a group that is given as a number, text such as "7x7x4", or a shape."""
    return checked_sizes("a group", group.strip() if isinstance(group, str) else group)


BY_NAME: dict[str, type[LadderNetwork]] = {"conv": ConvLadder, "dense": DenseLadder}


def get(name: "str | LadderNetwork | None", event_shape: Iterable[SupportsIndex]) -> LadderNetwork:
    """Return the networks that a name with options stands for; None for those that suit an event.

    Raises:
        InputError: if the name or an option is unknown or does not fit.
    """
    if name is None:
        name = "dense" if len(check_event_shape(event_shape)) == 1 else "conv"
    network: LadderNetwork = resolve(name, LadderNetwork, BY_NAME, "network of a hierarchy")
    return network


def ladder(
    name: "str | LadderNetwork | None",
    event_shape: Iterable[SupportsIndex],
    groups: tuple[Shape, ...],
    *,
    num_classes: int | None = None,
    missing: bool = False,
    encoded_channels: int | None = None,
    seed: int | None = None,
) -> Ladder:
    """Build the networks of a hierarchy by name; what is missing or encoded is as for `pair`.

    Args:
        name: "conv" or "dense", with options as in ``"conv:filters=16x64,blocks=2"``; or a
            `LadderNetwork`. None for "dense" on vectors and "conv" on all else.
        event_shape: (D,), (T, C), (H, W, C) or (D, H, W, C).
        groups: the shape of each group, topmost first, two or more.
        num_classes: labels, for networks that take one.
        missing: whether values may be missing.
        encoded_channels: how long the last axis is of what the encoder takes in place of values.
        seed: seed of the initial weights.

    Raises:
        InputError: if name, groups or another argument do not fit.
    """
    shape = check_event_shape(event_shape)
    network = get(name, shape)
    if len(groups) < 2:
        raise InputError(f"a hierarchy has two groups or more; received {groups}")
    channels = shape[-1] if encoded_channels is None else encoded_channels
    return network.make(
        shape,
        (*shape[:-1], channels + shape[-1] if missing else channels),
        network.groups(groups, shape, 1),
        num_classes=check_num_classes(num_classes),
        seed=check_seed(seed),
    )
