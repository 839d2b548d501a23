"""Faults of the kinds that have been met, each with quick tests that have to fail when it is there.

`inserting_faults.py` puts each into the functions of the package that it is in. A fault that no
quick test sees is a promise that nobody holds: write the test first, and name it here.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """One change to the package that a test must notice.

    Attributes:
        what: what is wrong then.
        file: where, in the package; in a function there.
        old: text that is there once.
        new: what stands there instead.
        test: a test that fails.
    """

    what: str
    file: str
    old: str
    new: str
    test: str


FAULTS = [
    Fault(
        "the KL is counted twice",
        "objectives/elbo.py",
        "return -(terms.mean_log_likelihood - beta * terms.kl)",
        "return -(terms.mean_log_likelihood - 2 * beta * terms.kl)",
        "objectives/test_objectives.py::test_the_kl_is_counted_once",
    ),
    Fault(
        "a sign in the closed form of the KL",
        "distributions/kl.py",
        "(tf.math.expm1(log_ratio) - log_ratio + squared_distance)",
        "(tf.math.expm1(log_ratio) + log_ratio + squared_distance)",
        "distributions/test_divergences.py::test_closed_form_is_numpys_in_float64",
    ),
    Fault(
        "a mean over dimensions for their sum",
        "objectives/elbo.py",
        "tf.reduce_sum(floored, axis=-1)",
        "tf.reduce_mean(floored, axis=-1)",
        "objectives/test_objectives.py::test_without_a_floor_free_bits_are_the_elbo",
    ),
    Fault(
        "the floor of free bits is a ceiling",
        "objectives/elbo.py",
        "batch_mean(tf.stop_gradient(kl), terms.share) < self.nats",
        "batch_mean(tf.stop_gradient(kl), terms.share) > self.nats",
        "objectives/test_objectives.py::test_the_floor_is_under_the_mean_of_the_batch",
    ),
    Fault(
        "missing values count as observed ones",
        "models/event_spec.py",
        "tf.where(mask, x, self.support.fill)), mask",
        "tf.where(mask, x, self.support.fill)), tf.ones_like(mask)",
        "models/test_events.py::test_only_observed_values_count",
    ),
    Fault(
        "the mask is dropped from the log-probability",
        "distributions/masked.py",
        "return tf.where(observed, log_prob, tf.zeros([], log_prob.dtype))",
        "return log_prob",
        "likelihoods/test_likelihoods_events.py::test_values_not_observed_count_for_nothing",
    ),
    Fault(
        "the network's class is off by one",
        "models/base.py",
        "tf.one_hot(tf.cast(label, tf.int32), self.num_classes)",
        "tf.one_hot(tf.cast(label, tf.int32) - 1, self.num_classes)",
        "models/test_conditional.py::"
        "test_the_elbo_at_the_exact_posterior_is_the_log_probability_given_the_label",
    ),
    Fault(
        "the prior's class is off by one",
        "priors.py",
        "tf.gather(table, label)",
        "tf.roll(tf.gather(table, label), 1, axis=0)",
        "test_priors.py::test_class_normal",
    ),
    Fault(
        "a level is rounded down",
        "distributions/discrete.py",
        "k = tf.round(x / self._step)",
        "k = tf.floor(x / self._step - 0.01)",
        "likelihoods/test_likelihoods.py::test_log_prob_is_the_sum_over_pixels_and_channels",
    ),
    Fault(
        "the target is ignored",
        "models/vae.py",
        "target, _ = self.checked(target, label)",
        "target = x",
        "models/test_inputs.py::test_with_a_target_the_elbo_is_that_of_the_target",
    ),
    Fault(
        "weights of events are ignored",
        "models/step.py",
        "return values if weight is None else values * weight",
        "return values",
        "models/test_model.py::test_images_of_weight_zero_give_no_gradient",
    ),
    Fault(
        "the seed of a draw is lost",
        "models/vae.py",
        "posterior.experimental_sample_and_log_prob(num_samples, seed=seed)",
        "posterior.experimental_sample_and_log_prob(num_samples)",
        "test_components.py::test_seeds_decide_weights_and_draws",
    ),
    Fault(
        "the seed of the first weights is lost",
        "models/vae.py",
        "self.posterior_family.bind((self.latent_dim,), self._derived_seed(1))",
        "self.posterior_family.bind((self.latent_dim,), None)",
        "test_components.py::test_seeds_decide_weights_and_draws",
    ),
    Fault(
        "every epoch has the order of the first",
        "datasets/batches.py",
        "key = tf.stack([tf.constant(split.seed, tf.int64), epoch])",
        "key = tf.stack([tf.constant(split.seed, tf.int64), 0 * epoch])",
        "datasets/test_datasets.py::TestBatches::test_each_iteration_is_an_epoch",
    ),
    Fault(
        "the sign of a flow's log-determinant",
        "distributions/flows.py",
        "return tf.reduce_sum(self._terms(z)[1], axis=-1)",
        "return -tf.reduce_sum(self._terms(z)[1], axis=-1)",
        "distributions/test_flows.py::test_log_determinant_is_that_of_the_jacobian",
    ),
    Fault(
        "the Jacobian of a logarithm is missing",
        "datasets/column.py",
        "logs -= self.center + self.scale * np.asarray(events, np.float64)",
        "logs -= 0.0",
        "datasets/test_tables.py::test_log_p_of_the_table_adds_the_jacobian",
    ),
    Fault(
        "the width of a level is missing from bits",
        "evaluation/estimates.py",
        "bits + math.log2(levels)",
        "bits",
        "evaluation/test_evaluation.py::test_bits_of_dequantised_images_bound_those_of_their_levels",
    ),
    Fault(
        "the bound is a sum of weights, not their mean",
        "objectives/importance.py",
        "tf.reduce_logsumexp(log_weight, axis=0) - tf.math.log(count)",
        "tf.reduce_logsumexp(log_weight, axis=0) + 0 * count",
        "objectives/test_objectives_importance.py::"
        "test_at_the_exact_posterior_every_bound_is_the_log_marginal",
    ),
    Fault(
        "log p(x) is of a sum of weights, not their mean",
        "evaluation/estimates.py",
        "log_sum - math.log(count)",
        "log_sum",
        "evaluation/test_evaluation.py::test_draws_are_counted_exactly",
    ),
    Fault(
        "weights are normalised over the batch, not over the draws",
        "objectives/importance.py",
        "terms.weigh_path(tf.nn.softmax(log_weight, axis=0))",
        "terms.weigh_path(tf.nn.softmax(log_weight, axis=1))",
        "objectives/test_objectives_importance.py::"
        "test_value_and_gradient_are_those_of_the_formula",
    ),
    Fault(
        "imputation does not normalise its weights",
        "models/vae.py",
        "weights = tf.nn.softmax(terms.log_weight, axis=0)  # [K, B]",
        "weights = tf.exp(terms.log_weight)",
        "evaluation/test_evaluation_events.py::test_the_imputed_mean_is_the_conditional_one",
    ),
    Fault(
        "the score of q is not left out",
        "models/vae.py",
        "if training and self.objective.detaches_posterior:",
        "if False:",
        "objectives/test_objectives_importance.py::"
        "test_gradient_of_each_draw_is_zero_at_the_exact_posterior",
    ),
    Fault(
        "an event is held against itself as against the others",
        "objectives/aggregate.py",
        "log_share = tf.where(own, -tf.math.log(size), others)",
        "log_share = tf.where(own, others, others)",
        "objectives/test_objectives_aggregate.py::test_each_part_is_the_formulas",
    ),
    Fault(
        "the optimal scale is of a sum of squares",
        "likelihoods/continuous.py",
        "variance, is_empty = tf.reduce_mean(squared, axes), False",
        "variance, is_empty = tf.reduce_sum(squared, axes), False",
        "likelihoods/test_likelihoods_continuous.py::"
        "test_optimal_scale_is_where_the_learned_one_would_end",
    ),
    Fault(
        "the last half step of a leapfrog is left out",
        "evaluation/chains.py",
        "momentum -= 0.5 * step_sizes * there.gradient(beta)",
        "momentum -= 0.0 * step_sizes * there.gradient(beta)",
        "evaluation/test_annealed.py::test_a_transition_leaves_its_density_as_it_is",
    ),
    Fault(
        "a codebook forgets what it should keep",
        "codes/quantizers.py",
        "counts = self.decay * old_counts + (1 - self.decay) * seen",
        "counts = (1 - self.decay) * old_counts + self.decay * seen",
        "codes/test_quantizers.py::test_the_codebook_follows_its_recursion",
    ),
    Fault(
        "a prior of codes sees the code that it is to tell",
        "codes/priors.py",
        "tf.ones((length, length), tf.bool), -1, 0)",
        "tf.ones((length, length), tf.bool), -1, 1)",
        "codes/test_code_priors.py::test_no_code_is_told_by_those_after_it",
    ),
    Fault(
        "the bound leaves the prior of the codes aside",
        "models/vq.py",
        "return BoundTerms(log_likelihood + log_prior, log_likelihood, log_prior)",
        "return BoundTerms(log_likelihood, log_likelihood, log_prior)",
        "models/test_vq.py::test_the_bound_lies_below_log_p_by_enumeration",
    ),
    Fault(
        "workers that share files take other rows of a batch than those that they hold",
        "datasets/shared.py",
        "offset += size",
        "offset += 1",
        "datasets/test_shared.py::test_each_event_is_used_once_an_epoch",
    ),
    Fault(
        "each of the workers that share files starts at its own events",
        "datasets/shared.py",
        "return self.common.subset(count, seed=seed)",
        "return Split.subset(self, count, seed=seed)",
        "datasets/test_shared.py::test_models_start_at_the_same_events",
    ),
]
