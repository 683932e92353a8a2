"""The optax optimizers that a config names, and their hyperparameters."""

_ADAM = ("b1", "b2", "eps", "eps_root")
OF_OPTAX = {
    "sgd": ("momentum", "nesterov"),
    "adam": (*_ADAM, "nesterov"),
    "adamw": (*_ADAM, "nesterov", "weight_decay"),
    "nadam": _ADAM,
    "radam": (*_ADAM, "threshold"),
    "adabelief": _ADAM,
    "yogi": ("b1", "b2", "eps"),
    "lamb": (*_ADAM, "weight_decay"),
    "lion": ("b1", "b2", "weight_decay"),
    "rmsprop": ("decay", "eps", "initial_scale", "momentum", "centered", "nesterov"),
    "adagrad": ("eps", "initial_accumulator_value"),
    "adadelta": ("rho", "eps", "weight_decay"),
    "adamax": ("b1", "b2", "eps"),
    "adamaxw": ("b1", "b2", "eps", "weight_decay"),
    "adafactor": (
        *("decay_rate", "clipping_threshold", "momentum", "weight_decay_rate", "eps"),
        *("factored", "multiply_by_parameter_scale"),
    ),
    "adan": ("b1", "b2", "b3", "eps", "eps_root", "weight_decay"),
    "amsgrad": _ADAM,
    "fromage": ("min_norm",),
    "lars": ("momentum", "nesterov", "trust_coefficient", "weight_decay"),
    "lbfgs": (),
    "nadamw": (*_ADAM, "weight_decay"),
    "novograd": (*_ADAM, "weight_decay"),
    "optimistic_gradient_descent": ("alpha", "beta"),
    "optimistic_adam_v2": ("alpha", "beta", *_ADAM),
    "polyak_sgd": ("scaling", "f_min", "eps"),
    "rprop": ("eta_minus", "eta_plus", "min_step_size", "max_step_size"),
    "sign_sgd": (),
    "signum": ("beta",),
}
OF_CONTRIB = {
    "acprop": (*_ADAM, "weight_decay"),
    "ademamix": (*_ADAM, "b3", "alpha", "weight_decay"),
    "adopt": ("b1", "b2", "eps", "nesterov", "use_clipping"),
    "cocob": ("alpha", "eps", "weight_decay"),
    "dadapt_adamw": ("eps", "estim_lr0", "weight_decay"),
    "dog": ("eps", "weight_decay"),
    "dowg": ("eps", "weight_decay"),
    "madgrad": ("momentum", "eps", "weight_decay"),
    "mechanize": ("weight_decay", "eps", "s_init"),
    "momo": ("beta", "lower_bound", "weight_decay", "adapt_lower_bound"),
    "momo_adam": ("b1", "b2", "eps", "lower_bound", "weight_decay", "adapt_lower_bound"),
    "muon": ("beta", "eps", "weight_decay", "adam_b1", "adam_b2", "nesterov", "adaptive"),
    "prodigy": ("eps", "estim_lr0", "estim_lr_coef", "weight_decay", "safeguard_warmup"),
    "sam": ("rho",),
    "schedule_free": ("b1", "weight_lr_power"),
    "schedule_free_adamw": ("b1", "b2", "eps", "weight_decay", "weight_lr_power"),
    "schedule_free_sgd": ("b1", "weight_decay", "weight_lr_power"),
    "simplified_ademamix": (*_ADAM, "alpha", "weight_decay"),
    "sophia": ("b1", "b2", "eps", "weight_decay", "gamma", "clip_threshold"),
}
OPTIMIZERS = OF_OPTAX | OF_CONTRIB
"""Names, and the hyperparameters beside the rate that a config may give."""
FLAGS = (
    "adapt_lower_bound",
    "adaptive",
    "centered",
    "factored",
    "multiply_by_parameter_scale",
    "nesterov",
    "safeguard_warmup",
    "use_clipping",
)
"""Hyperparameters that are true or false; all others are numbers, and can be swept."""
WRAPPERS = ("mechanize", "sam", "schedule_free")
"""Optimizers of an optimizer, which the key `base` names."""
SCHEDULE_FREE = ("schedule_free", "schedule_free_adamw", "schedule_free_sgd")
"""Optimizers that average their parameters, and are measured at the average."""
REFUSED = {
    "dpsgd": "it asks for the gradient of each example",
    "galore": "it factorizes gradients by shapes that a config does not say",
    "lookahead": "it trains pairs of parameters, and not parameters",
    "noisy_sgd": "its noise is the same in all trials",
    "optimistic_adam": "it is deprecated by optax, which has optimistic_adam_v2",
    "reduce_on_plateau": "it scales the updates of an optimizer, and is none",
    "sm3": "it fails in optax for a parameter that is one number",
}
"""Optimizers that optax has and a config cannot name, and why."""
