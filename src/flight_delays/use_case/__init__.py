"""Yours to replace: the one place that knows what is forecast. It exports USE_CASE, and its tables stand in sql/."""

from pathlib import Path

from flight_delays.core.objective import BinaryClassification
from flight_delays.core.use_case import UseCase
from flight_delays.use_case import prepare
from flight_delays.use_case.card import CARD
from flight_delays.use_case.features import QUESTIONS, SPINE, finish
from flight_delays.use_case.labels import LABELS, MATURITY
from flight_delays.use_case.model import LEARNER, SPACE
from flight_delays.use_case.slices import slices
from flight_delays.use_case.sources import SOURCES

USE_CASE = UseCase(
    name="flight_delays",
    entity="flight",
    question="Will this flight arrive 15 minutes late or more?",
    zone=prepare.ZONE,
    maturity=MATURITY,
    objective=BinaryClassification(positive="late", negative="on time"),
    sources=SOURCES,
    spine=SPINE,
    questions=QUESTIONS,
    finish=finish,
    labels=LABELS,
    learner=LEARNER,
    prepare=prepare,
    search_space=SPACE,
    slices=slices,
    card=CARD,
    sql=Path(__file__).parent / "sql",
)
