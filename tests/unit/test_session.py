"""What a person is told when Spark does not start."""

import pytest

from flight_delays.platform.session import why_not


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("java.io.IOException: No space left on device", "the disk is full"),
        ("There is insufficient memory for the Java Runtime Environment to continue.", "too little memory"),
        ("error='Cannot allocate memory' (errno=12)", "too little memory"),
        ("Exception: java.lang.UnsupportedClassVersionError: org/apache/spark/Main", "Java 17 or 21"),
        ("JAVA_HOME is not set", "Java 17 or 21"),
        ("spark-class: line 71: /usr/lib/jvm/gone/bin/java: No such file or directory", "Java 17 or 21"),
        (":: UNRESOLVED DEPENDENCIES ::", "connect to the network"),
        ("java.net.BindException: Cannot assign requested address", "SPARK_LOCAL_IP"),
    ],
)
def test_a_cause_that_a_person_can_mend_is_named(log: str, said: str) -> None:
    assert said in why_not("[JAVA_GATEWAY_EXITED] Java gateway process exited", f"loading\n{log}\nbye")


def test_another_cause_is_the_errors_first_line() -> None:
    assert why_not("broken\n  at line 1", "nothing to see") == "broken"
