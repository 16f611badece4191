"""Which model, where the search for its parameters begins, and where it looks."""

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from flight_delays.learners.lightgbm_trees import LightGBM

LEARNER = LightGBM(
    parameters={
        "objective": "binary",
        "learning_rate": 0.07,
        "max_bin": 63,
        "num_leaves": 31,
        "min_data_in_leaf": 500,
        "lambda_l2": 0.1,
        "cat_smooth": 50.0,
        "cat_l2": 20.0,
        "feature_fraction": 0.8,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "seed": 20130101,
    }
)

SPACE: dict[str, BaseDistribution] = {
    "num_leaves": IntDistribution(15, 127, log=True),
    "min_data_in_leaf": IntDistribution(100, 2_000, log=True),
    "lambda_l2": FloatDistribution(0.01, 100.0, log=True),
    "cat_smooth": FloatDistribution(5.0, 200.0, log=True),
    "feature_fraction": FloatDistribution(0.3, 1.0),
}
