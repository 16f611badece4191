"""A second use case: how many bikes will be rented in an hour, asked six hours before it begins.

The hourly rentals of 2011 in Washington DC (Fanaee-T and Gama 2013), from the files of the package ISLP.
"""

from datetime import timedelta
from pathlib import Path

from optuna.distributions import FloatDistribution, IntDistribution
from tests.bikes import prepare
from tests.bikes.features import QUESTIONS, SPINE, finish
from tests.bikes.forest import Forest
from tests.bikes.sources import LABELS, SOURCES, slices

from flight_delays.core.objective import Regression
from flight_delays.core.use_case import Card, UseCase

USE_CASE = UseCase(
    name="bike_rentals",
    entity="hour",
    question="How many bikes will be rented in this hour?",
    zone=prepare.ZONE,
    maturity=timedelta(hours=1),
    objective=Regression(unit="rentals", scale=134.0),
    sources=SOURCES,
    spine=SPINE,
    questions=QUESTIONS,
    finish=finish,
    labels=LABELS,
    learner=Forest(parameters={"min_samples_leaf": 3, "max_features": 0.5}),
    prepare=prepare,
    search_space={"min_samples_leaf": IntDistribution(1, 20, log=True), "max_features": FloatDistribution(0.2, 1.0)},
    slices=slices,
    card=Card(
        purpose="The rentals of an hour, asked six hours before it begins: to move bikes to where they will be needed.",
        limits=(
            "It has seen one city in one year, the first of a system that was growing.",
            "Weather is what was measured when the question was asked: a forecast would know more.",
        ),
    ),
    sql=Path(__file__).parent / "sql",
)
