"""The laptop's Spark session: what serverless compute has, and nothing more."""

import pytest
from pyspark.errors import PySparkAttributeError, PySparkNotImplementedError
from pyspark.sql import SparkSession


def test_the_session_is_of_the_kind_that_the_tests_were_asked_for(
    spark: SparkSession, request: pytest.FixtureRequest
) -> None:
    kind = "connect" if type(spark).__module__.startswith("pyspark.sql.connect.") else "classic"
    assert kind == request.config.getoption("--spark")


def test_spark_connect_refuses_what_serverless_compute_lacks(
    spark: SparkSession, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--spark") == "classic":
        pytest.skip("classic Spark has all of it")
    for lacking in (lambda: spark.range(1).rdd, lambda: spark.sparkContext):
        with pytest.raises((PySparkAttributeError, PySparkNotImplementedError)):
            lacking()


def test_times_are_utc(spark: SparkSession) -> None:
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
