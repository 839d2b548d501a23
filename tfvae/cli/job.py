"""A training as ``tfvae train`` runs it, into a new run directory or on with a stopped one."""

import contextlib
import dataclasses
import json
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from tfvae import datasets, models, objectives, plotting
from tfvae.cli import codes
from tfvae.cli.collapse import collapse_warnings
from tfvae.cli.defaults import COLUMNS, completed
from tfvae.cli.drawing import (
    DEFAULT_RECONSTRUCTIONS,
    Units,
    draw_samples,
    made_up_rows,
    samples_figure,
)
from tfvae.cli.wording import as_options
from tfvae.datasets.parts import exists
from tfvae.datasets.preprocessing import Preprocessing
from tfvae.datasets.source import plural_of
from tfvae.errors import InputError
from tfvae.evaluation import CodeUsage, ELBOEstimate, elbo
from tfvae.evaluation.diagnostics import ACTIVE
from tfvae.likelihoods import Likelihood
from tfvae.models.adam import FusedAdam
from tfvae.models.hierarchical import HierarchicalVAE
from tfvae.models.sources import warn_of_scale
from tfvae.models.vae import VAE
from tfvae.models.vq import VQVAE
from tfvae.priors import VampPrior
from tfvae.saving.card import Card, licence_of
from tfvae.saving.config import TrainConfig
from tfvae.saving.files import new_directory, new_file, refuse_existing, refuse_links, unwritable
from tfvae.saving.finite import without_nan
from tfvae.saving.locks import locked
from tfvae.saving.run import (
    SCHEMA_FILE,
    check_place,
    default_run_dir,
    load_data,
    read_schema,
)
from tfvae.serving.calibration import DEFAULT_RATE, calibrate
from tfvae.serving.export import export_saved_model
from tfvae.training import loggers, replicas, train
from tfvae.training.checkpoints import Checkpoints
from tfvae.training.monitoring import MetricsFile, Pictures, write_metrics
from tfvae.training.precision import best_precision

_MAP_EVENTS = 5000
# Events that tell whether the posterior has collapsed.
_JUDGED = 512
# What a run directory shows.
_PICTURES = ("samples", "reconstructions", "latent", "groups", "codes", "curves")
# What a training writes into, where a link would be followed.
_WRITTEN = ("checkpoints", "saved_model", "tensorboard")


@dataclasses.dataclass(frozen=True)
class Done:
    """What came of a training.

    Attributes:
        run_dir: its directory.
        score: the ELBO of the test images; None where the training was stopped before its end, and
            in processes that are not the chief.
        stopped: the signal that stopped it, or None.
        active: how many latent dimensions are used, and how many there are; None without a score.
        warnings: a line for each thing that is wrong with the model.
        usage: of the codes of the test events; None of a model without codes.
    """

    run_dir: Path
    score: ELBOEstimate | None
    stopped: int | None = None
    active: tuple[int, int] | None = None
    warnings: tuple[str, ...] = ()
    usage: CodeUsage | None = None


def start(config: TrainConfig, until: int | None = None) -> Done:
    """Train as `config` says, and fill a new run directory.

    Args:
        config: the options.
        until: epochs after which to stop for now, with the model as it is then; `resume` goes on.

    Raises:
        InputError: if an option or the images do not fit; nothing is left behind then.
        DivergenceError: if the loss is not finite any more.
    """
    run_dir = config.run_dir or default_run_dir(config.dataset)
    job = _Job(_with_absolute_paths(dataclasses.replace(config, run_dir=run_dir)))
    if job.is_chief:
        refuse_existing(run_dir, "choose another --run-dir or remove it first")
    job.prepare()
    if not job.is_chief:
        return job.run(until)
    with new_directory(run_dir) as partial:
        (partial / "config.toml").write_text(job.config.to_toml(), encoding="utf-8")
        if job.data.schema is not None:
            text = json.dumps(job.data.schema.to_config(), indent=1)
            (partial / SCHEMA_FILE).write_text(f"{text}\n", encoding="utf-8")
    try:
        return job.run(until)
    except UnwritableError:
        raise  # says how to go on in this directory
    except InputError:
        # Images deep in the data that do not fit: there is nothing here that could go on.
        if not Checkpoints(run_dir / "checkpoints").files():
            shutil.rmtree(run_dir, ignore_errors=True)
        raise


def resume(run_dir: Path, until: int | None = None) -> Done:
    """Go on with the training of a run directory that was stopped, with its own options.

    Args:
        run_dir: the directory.
        until: epochs, counted from the training's beginning, after which to stop for now.

    Raises:
        InputError: if it is no run directory, or its checkpoints are damaged.
        DivergenceError: if the loss is not finite any more.
    """
    file = run_dir / "config.toml"
    if not file.is_file():
        raise InputError(
            f"expected a run directory of tfvae train, with its config.toml; received {run_dir}"
        )
    if _is_trained_without_checkpoints(run_dir):
        raise InputError(
            f"{run_dir} holds a trained model and no checkpoints to go on from, and would be "
            "trained anew: train in another --run-dir, or remove its model.keras first"
        )
    refuse_links(run_dir, _WRITTEN)
    config = TrainConfig.read(file)
    check_place(config, "move them back, or write their new place into its config.toml")
    job = _Job(dataclasses.replace(config, run_dir=run_dir))
    job.prepare(read_schema(run_dir))
    return job.run(until)


def start_or_resume(config: TrainConfig, until: int | None = None) -> Done:
    """Train as `config` says in its `run_dir`, or go on where this was stopped.

    Where the data lie, and the precision, may be others than at the beginning.

    Args:
        config: the options.
        until: epochs after which to stop for now; the same call goes on.

    Raises:
        InputError: as `start` and `resume` do, and if `run_dir` was begun with other options.
        DivergenceError: if the loss is not finite any more.
    """
    run_dir = config.run_dir or default_run_dir(config.dataset)
    config = dataclasses.replace(config, run_dir=run_dir)
    if not (run_dir / "config.toml").exists():
        return start(config, until)
    begun = TrainConfig.read(run_dir / "config.toml")
    config = _with_absolute_paths(config)
    begun = dataclasses.replace(
        begun,
        dataset=config.dataset,
        manual_dir=config.manual_dir,
        precision=config.precision,
        run_dir=run_dir,
    )
    for field in dataclasses.fields(TrainConfig):
        was, now = getattr(begun, field.name), getattr(config, field.name)
        # What was left to the training to choose stays as it chose.
        if was != now and now is not None:
            raise InputError(
                f"{run_dir} was begun with {field.name} {was}, and is to go on with {now}: remove "
                "it, or give another directory"
            )
    return resume(run_dir, until)


def _is_trained_without_checkpoints(run_dir: Path) -> bool:
    has_model = (run_dir / "model.keras").exists()
    return has_model and not any((run_dir / "checkpoints").glob("step-*.npz"))


class UnwritableError(InputError):
    """A run directory that cannot be written any more; the training goes on when it can be."""


class _Job:
    """Options, and what is made of them."""

    def __init__(self, config: TrainConfig):
        # Before TensorFlow does anything else.
        self.strategy = replicas.strategy_of_environment()
        self.worker, self.workers = replicas.worker_of(self.strategy)
        self.is_chief = self.worker == 0
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        if config.precision == "auto":
            config = dataclasses.replace(config, precision=best_precision())  # type: ignore[arg-type]
        self.config = config
        self.run_dir: Path = config.run_dir  # type: ignore[assignment]
        self.logger: loggers.RunLogger | None = None

    def prepare(self, schema: datasets.Schema | None = None) -> None:
        """Load the data and build the model.

        Args:
            schema: of a training that goes on, what the columns of its table were.

        Raises:
            InputError: if an option or the data do not fit.
        """
        config = self.config
        if config.logger is not None:
            loggers.require(config.logger)
        self.data = load_data(config, schema, workers=replicas.readers(self.strategy))
        if self.is_chief:
            print(as_options(self.data.summary()), file=sys.stderr)
        config, choice = completed(config, self.data)
        self.config = config
        if choice is not None and self.is_chief:
            print(f"likelihood {choice.likelihood}: {choice.reason}", file=sys.stderr)
        if config.conditional and not self.data.has_labels:
            raise InputError(f"{self.data.name} has no labels for a conditional model")
        self.epochs: int = config.epochs  # type: ignore[assignment]
        self.batch_size: int = config.batch_size  # type: ignore[assignment]
        with self.strategy.scope(), _dtype_policy(config.precision):
            self.vae = self._make(self.data.train.steps(self.batch_size))
        if self.is_chief:
            warn_of_scale(self.vae, self.data.train.arrays(limit=256)[0])

    def _make(self, steps: int) -> VAE:
        config, data = self.config, self.data
        likelihood = _likelihood(config.likelihood, data)  # type: ignore[arg-type]
        vae: Any
        _refuse_options_of_others(config)
        if config.model == "vq":
            vae = codes.make(config, data, likelihood)
        else:
            groups = {} if config.groups is None else {"groups": config.groups}
            vae = models.BY_NAME[config.model].for_events(
                data.event_shape,
                latent_dim=config.latent_dim,
                network=config.network,
                likelihood=likelihood,
                posterior=config.posterior,
                prior=config.prior,
                objective=objectives.get(
                    config.objective,  # type: ignore[arg-type]
                    {"dataset_size": len(data.train)},
                ),
                num_classes=data.num_classes if config.conditional else None,
                missing=config.missing,
                seed=config.seed,
                **groups,
            )
        # Values outside the support show in the first events, before anything is written.
        x, labels = data.train.arrays(limit=256)
        vae.event_spec.check_array(x, labels)
        prior = vae.prior_family.of_top() if isinstance(vae, VAE) else None
        if isinstance(prior, VampPrior):
            # More pseudo-inputs than events are refused here.
            x, _ = data.train.arrays(limit=prior.pseudo_inputs)
            prior.adapt(vae.event_spec.observed(tf.constant(x))[0].numpy())
        optimizer = FusedAdam(
            learning_rate(config, steps * self.epochs // config.accumulate),
            weight_decay=config.weight_decay,
            global_clipnorm=config.clip_norm,
            gradient_accumulation_steps=config.accumulate if config.accumulate > 1 else None,
            use_ema=config.average is not None,
            ema_momentum=config.average or 0.99,
        )
        # A prior's means and a likelihood's scales do not belong at 0, nor an output's bias.
        others = [weight for weight in vae.trainable_variables if weight.name != "kernel"]
        optimizer.exclude_from_weight_decay(others)
        vae.compile(optimizer, skip_norm=config.skip_norm)
        return vae

    def run(self, until: int | None = None) -> Done:
        """Train, or go on training, to the end or for so many epochs; fill the run directory."""
        epochs = min(until or self.epochs, self.epochs)
        if self.is_chief:
            self._announce()
        with contextlib.ExitStack() as stack:
            stack.enter_context(_one_line_errors(self.run_dir))
            if self.is_chief:
                stack.enter_context(locked(self.run_dir / "checkpoints"))
            return self._run(epochs)

    def _run(self, epochs: int) -> Done:
        vae = self.vae
        with _stopping() as stopped, datasets.input_errors():
            over = self._train(epochs, "checkpoints", "metrics.csv", stopped)
            self._history = vae.history.history
            if over and epochs == self.epochs and isinstance(vae, VQVAE):
                over = self._train_prior(vae, stopped)
        ended = bool(vae.stop_training) or (over and epochs == self.epochs)
        by = None if over else (stopped or [signal.SIGTERM])[0]
        score = None
        self._judged: tuple[tuple[int, int] | None, tuple[str, ...]] = (None, ())
        self._usage: CodeUsage | None = None
        if self.is_chief and by != signal.SIGTERM:
            if by is not None:
                print("\ninterrupted: keeping the model as it is now", file=sys.stderr)
                vae.optimizer.finalize_variable_values(vae.trainable_variables)
            score = self._finish()
        if self.logger is not None:
            names = () if score is None else _PICTURES
            places = [self.run_dir / f"{name}.png" for name in names]
            figures = {} if score is None else dataclasses.asdict(score)
            self.logger.finish(
                figures,
                [place for place in places if place.exists()],
                "finished" if ended and not stopped else "stopped",
            )
        # The others wait for the chief.
        replicas.wait_for_all(self.strategy)
        return Done(self.run_dir, score, by, *self._judged, usage=self._usage)

    def _train(self, epochs: int, checkpoints: str, metrics: str, stopped: list[int]) -> bool:
        """Train for so many epochs, from the newest checkpoint on; say whether it came to an end.

        Args:
            epochs: counted from the training's beginning.
            checkpoints: where they are in the run directory.
            metrics: name of the file of metrics there.
            stopped: gets the number of a signal that stops the training.
        """
        config, data, vae = self.config, self.data, self.vae
        history = train(
            vae,
            datasets.Batches(data.train, self.batch_size, shuffle=True),
            epochs=epochs,
            validation_data=datasets.Batches(data.validation, self.batch_size),
            callbacks=self._callbacks(metrics),
            checkpoint_dir=self.run_dir / checkpoints,
            checkpoint_seconds=config.checkpoint_seconds,
            skip_non_finite=config.skip_non_finite,
            should_stop=lambda: bool(stopped),
            progress=self.is_chief,
        )
        return bool(vae.stop_training or len(history.epoch) >= epochs)

    def _train_prior(self, vq: VQVAE, stopped: list[int]) -> bool:
        """Train the prior of a model's codes, the second stage; say whether it came to an end."""
        config = self.config
        epochs = config.prior_epochs or self.epochs
        if self.is_chief:
            print(
                f"codes are trained; prior of {vq.code_prior.length} codes below {vq.num_codes}: "
                f"{vq.code_prior.count_params():,} parameters, {epochs} epochs",
                file=sys.stderr,
            )
        steps = self.data.train.steps(self.batch_size)
        with self.strategy.scope():
            optimizer = codes.prior_optimizer(learning_rate(config, steps * epochs))
            stage = vq.training_prior(optimizer)
            stage.__enter__()
        try:
            return self._train(epochs, "checkpoints/prior", "prior_metrics.csv", stopped)
        finally:
            with self.strategy.scope():
                stage.__exit__(None, None, None)

    def _announce(self) -> None:
        data, vae = self.data, self.vae
        device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
        count = self.strategy.num_replicas_in_sync
        print(
            f"{len(data.train)} training, {len(data.validation)} validation and {len(data.test)} "
            f"test {vae.event_spec.noun} of {' x '.join(map(str, data.event_shape))}; likelihood "
            f"{self.config.likelihood}; {vae.count_params():,} parameters; {self.epochs} epochs on "
            + (f"{count} {device}s" if count > 1 else f"the {device}")
            + f" in {self.config.precision}; "
            + _what_is_estimated(vae),
            file=sys.stderr,
        )

    def _callbacks(self, metrics: str) -> list[keras.callbacks.Callback]:
        config = self.config
        callbacks: list[keras.callbacks.Callback] = []
        if config.patience is not None:
            callbacks.append(
                keras.callbacks.EarlyStopping(
                    "val_elbo", mode="max", patience=config.patience, restore_best_weights=True
                )
            )
        if not self.is_chief:
            return callbacks
        logs = self.run_dir / "tensorboard"
        if logs.exists() and not logs.is_dir():
            aside = logs.with_name("tensorboard.aside")
            print(f"tfvae: {logs} is no directory: it is now {aside.name}", file=sys.stderr)
            logs.replace(aside)
        x, labels = self.data.validation.arrays(limit=512)
        if config.logger is not None and self.logger is None:
            self.logger = loggers.logger(
                config.logger,
                self.run_dir,
                {"dataset": Path(self.data.name).name, **_described(config)},
            )
        if self.logger is not None:
            callbacks.append(self.logger)
        return [
            *callbacks,
            MetricsFile(self.run_dir / metrics),
            keras.callbacks.TensorBoard(
                str(logs), write_graph=False, profile_batch=2 if config.profile else 0
            ),
            Pictures(logs / "pictures", x, labels if config.conditional else None, config.seed),
        ]

    def _finish(self) -> ELBOEstimate:
        """Save the model, score it on the test events and draw the pictures."""
        vae, data, run_dir, config = self._plain_model(), self.data, self.run_dir, self.config
        with new_file(run_dir / "model.keras") as partial:
            vae.save(partial)
        score = elbo(vae, data.test.batches(self.batch_size), seed=config.seed)
        if not np.isfinite(score.elbo):
            print(
                f"tfvae: the ELBO of the test {vae.event_spec.noun} is not finite: do not use this "
                "model; take a smaller --learning-rate, or look at the data with tfvae data",
                file=sys.stderr,
            )
        if isinstance(vae, VQVAE):
            self._usage = codes.usage_of(vae, data.test)
            self._judged = (None, codes.usage_warnings(self._usage))
        else:
            self._judged = self._judge(vae, score)
        with new_file(run_dir / "test.json") as partial:
            facts = without_nan(dataclasses.asdict(score))
            partial.write_text(json.dumps(facts, indent=2) + "\n")
        write_metrics(run_dir / "metrics.csv", self._history)
        # As the first version of a model, which a server may watch.
        export_saved_model(
            vae, run_dir / "saved_model" / "1", card=self._card(vae, score), replace=True
        )
        for name, figure in self._pictures(vae).items():
            plotting.save(figure, run_dir / f"{name}.png")
        return score

    def _judge(self, vae: VAE, score: ELBOEstimate) -> tuple[tuple[int, int], tuple[str, ...]]:
        """Say how many latent dimensions are used, and whether the posterior has collapsed."""
        x, labels = self.data.test.arrays(limit=_JUDGED)
        codes = vae.code(x, labels if vae.num_classes is not None else None).numpy()
        active = int((codes.var(axis=0) > ACTIVE).sum())
        # One event alone varies in nothing.
        if len(x) < 2:
            return (active, vae.latent_dim), ()
        warnings = collapse_warnings(score.kl, active, vae.latent_dim, self.config)
        return (active, vae.latent_dim), warnings

    def _pictures(self, vae: VAE) -> dict[str, Figure]:
        """Draw what a run directory shows of its model, by the names of the files."""
        data = self.data
        x, labels = data.test.arrays(limit=_MAP_EVENTS)
        given = labels if vae.num_classes is not None else None
        units = Units(data.schema)
        few: Any = slice(DEFAULT_RECONSTRUCTIONS[x.ndim - 1])
        if x.ndim == 2:  # tables are often sorted
            few = np.unique(np.linspace(0, len(x) - 1, few.stop).astype(int))
        pictures = {
            "samples": self._samples(vae, x, labels),
            "reconstructions": plotting.reconstructions(
                units.of(x[few]),
                units.of(vae.reconstruct(x[few], None if given is None else given[few])),
                units.names,
            ),
        }
        if isinstance(vae, HierarchicalVAE) and vae.has_groups:
            label = None if given is None else given[0]
            rows = vae.group_effects(label=label, seed=self.config.seed)
            pictures["groups"] = plotting.group_rows(units.of(rows), units.names)
        if isinstance(vae, VQVAE) and self._usage is not None:
            pictures["codes"] = codes.picture(vae, x, given, self._usage)
        else:
            pictures["latent"] = _latent_map(vae, x, labels)
        history = self._history
        if history:
            pictures["curves"] = plotting.curves(history)
        return pictures

    def _samples(self, vae: VAE, x: np.ndarray, labels: np.ndarray | None) -> Figure:
        """Draw samples; of a table's model as rows, beside test rows `[N, D]`."""
        schema, seed = self.data.schema, self.config.seed
        if schema is None:
            return samples_figure(vae, Units(None), seed=seed)
        rows = made_up_rows(vae, schema, draw_samples(vae, seed=seed))
        return plotting.table_figure(schema.to_frame(x, labels), schema, rows)

    def _card(self, vae: VAE, score: ELBOEstimate) -> Card:
        data, config = self.data, self.config
        images = {"train": data.train, "validation": data.validation, "test": data.test}
        validation = data.validation.batches(self.batch_size)
        enough = len(data.validation) >= 1 / DEFAULT_RATE and np.isfinite(score.elbo)
        name = Path(data.name).name
        return Card(
            data={
                "name": name,
                "licence": licence_of(name),
                plural_of(data.event_shape): {split: len(rows) for split, rows in images.items()},
            },
            class_names=data.class_names,
            schema=data.schema,
            preprocessing=Preprocessing.like(data.validation),
            training=_described(config),
            # One event alone has no standard error.
            metrics=without_nan(dataclasses.asdict(score)),
            anomaly=calibrate(vae, validation) if enough else None,
        )

    def _plain_model(self) -> VAE:
        """Return the model for one device and in float32, whatever it was trained on and in.

        What is spread over many devices can only be used by all of them; and bfloat16 is slow on
        processors without it, and rounds otherwise in a server's graph than here.
        """
        if self.strategy.num_replicas_in_sync == 1 and self.config.precision == "float32":
            return self.vae
        with _dtype_policy("float32"):
            plain = self._make(self.data.train.steps(self.batch_size))
        optimizer: Any = self.vae.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        for new, old in zip(
            [*plain.weights, *plain.optimizer.variables],
            [*self.vae.weights, *optimizer.variables],
            strict=True,
        ):
            new.assign(old)
        return plain


# The options that one kind of model has alone.
_OPTIONS_OF = {"hierarchical": ("groups",), "vq": ("quantizer", "code_prior", "prior_epochs")}


def _refuse_options_of_others(config: TrainConfig) -> None:
    """Refuse options that are for a model of another kind.

    Raises:
        InputError: if there is one.
    """
    for model, names in _OPTIONS_OF.items():
        for name in names:
            if config.model != model and getattr(config, name) is not None:
                raise InputError(
                    f"--{name.replace('_', '-')} is for --model {model}, and the model is "
                    f"{config.model}: give one or the other"
                )


def _what_is_estimated(vae: VAE | VQVAE) -> str:
    """Say what of a model's ELBO is drawn."""
    if isinstance(vae, VQVAE):
        codes_of_each = " x ".join(map(str, vae.code_shape))
        return f"{codes_of_each} codes below {vae.num_codes} for each; the ELBO is a bound, exact"
    return "KL " + ("in closed form" if vae.kl_is_exact else "estimated from the draws of z")


def _described(config: TrainConfig) -> dict[str, Any]:
    """Return the options that say how a model was trained, as others may read them."""
    # Where files lie on this machine is nobody else's affair.
    own = ("run_dir", "manual_dir", "dataset", "logger")
    return {
        option: value
        for option, value in dataclasses.asdict(config).items()
        if value not in (None, False, ()) and option not in own
    }


def _with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """Return the options with paths that are found again from any directory."""
    is_path = exists(config.dataset)
    return dataclasses.replace(
        config,
        dataset=str(Path(config.dataset).resolve()) if is_path else config.dataset,
        manual_dir=None if config.manual_dir is None else config.manual_dir.resolve(),
    )


def _likelihood(name: str, data: datasets.Dataset) -> Likelihood | str:
    """Return the likelihood of a name; "columns" is that of the table's own schema.

    Raises:
        InputError: if the data are no table and have no columns.
    """
    if name != COLUMNS:
        return name
    if data.schema is None:
        raise InputError(
            f"likelihood 'columns' is for tables with a schema; {data.name} has none: give "
            "another, such as normal:scale=learned"
        )
    return data.schema.likelihood()


@contextlib.contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    """Let layers that are made here compute in what a policy says; it is Keras' own setting."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def learning_rate(config: TrainConfig, updates: int) -> Any:
    """Return the step size, or its schedule over so many updates."""
    rate, warm_up = config.learning_rate, config.warm_up
    if warm_up >= updates:
        raise InputError(
            f"--warm-up of {warm_up} steps outlasts the training of {updates}: take fewer, or more "
            "epochs"
        )
    if config.decay == "cosine":
        if not warm_up:
            return keras.optimizers.schedules.CosineDecay(rate, updates)
        return keras.optimizers.schedules.CosineDecay(
            0.0, updates - warm_up, warmup_target=rate, warmup_steps=warm_up
        )
    if config.decay == "stages":
        if warm_up:
            raise InputError("--decay stages has no --warm-up: leave it out, or decay to cosine")
        return _stages(rate, updates)
    if not warm_up:
        return rate
    return keras.optimizers.schedules.PolynomialDecay(0.0, warm_up, rate)


def _stages(rate: float, updates: int) -> Any:
    """Return the schedule of Burda et al. (2016), arXiv:1509.00519, section 5.

    Stage i = 0 ... 7 is 3^i of the 3,280 parts of the training, at the rate 10^(-i/7).
    """
    stages = range(8)
    # Keras takes a boundary for the last update of a stage, and counts updates from 0.
    lasts = [round(updates * (3 ** (i + 1) - 1) / (3**8 - 1)) - 1 for i in stages]
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        lasts[:-1], [rate * 10 ** (-i / 7) for i in stages]
    )


@contextlib.contextmanager
def _stopping() -> Iterator[list[int]]:
    """Yield a list that gets the number of the signal that asks the training to stop.

    SIGTERM and Ctrl-C wait for the end of the steps under way; a second one comes at once.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # signals belong to the main thread
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def receive(number: int, frame: Any) -> None:
        received.append(number)
        for one, handler in before.items():
            signal.signal(one, handler)

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _one_line_errors(run_dir: Path) -> Iterator[None]:
    """Say in one line what a disk that is full or cannot be written means for a training."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = unwritable(error)
        if reason is None:
            raise
        if not (run_dir / "config.toml").exists():
            raise UnwritableError(
                f"{run_dir} is gone: it was removed while the training ran, and what it held is "
                "lost; train anew"
            ) from error
        place = getattr(error, "filename", None) or run_dir
        raise UnwritableError(
            f"cannot write {place}: {reason}: make room for it, then go on with tfvae train "
            f"--resume {run_dir}"
        ) from error


def _latent_map(vae: VAE, x: np.ndarray, labels: np.ndarray | None) -> Figure:
    rows = (x,) if vae.num_classes is None else (x, labels)
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(512)
    codes = np.concatenate([vae.code(*batch) for batch in batches])
    manifold = None
    if vae.latent_dim == 2 and vae.num_classes is None and x.ndim == 4:
        manifold = vae.likelihood_family.mean(vae.decode(plotting.quantile_grid()))
    return plotting.latent_map(codes, labels, manifold)
