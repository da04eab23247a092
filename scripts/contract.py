"""What scripts/contract asks beside schemathesis' own checks."""

import os

import schemathesis

CLOSED = os.environ.get("CONTRACT_CLOSED") == "yes"


@schemathesis.check
def closed_to_strangers(ctx, response, case):
    """Without a key a hub that asks for one answers 401 wherever the description says so, to whatever is sent."""
    if CLOSED and case.operation.definition.raw.get("security") and response.status_code != 401:
        raise AssertionError(f"{case.method} {case.path} answers {response.status_code} to a stranger, 401 was due")


@schemathesis.check
def wrong_is_told_in_words(ctx, response, case):
    """Every refusal of an operation that is there says what is wrong."""
    if response.status_code < 400 or response.status_code == 405 or case.method.upper() != case.operation.method.upper():
        return
    told = response.json().get("error")
    if not told:
        raise AssertionError(f"{response.status_code} without a word in `error`")
