"""A bucket that is not there ends a command at once: another try would find none either."""

from __future__ import annotations

import pytest

from rayscan.storage import policy


@pytest.mark.parametrize(
    ("words", "tries"),
    [
        ("Bucket 'x' not found. To create buckets, enable the allow_bucket_creation option.", 1),
        ("AWS Error NO_SUCH_BUCKET during CreateMultipartUpload operation", 1),
        ("AWS Error NETWORK_CONNECTION during PutObject operation", 3),
    ],
)
def test_only_what_may_come_back_is_asked_again(words: str, tries: int) -> None:
    asked: list[int] = []

    def ask() -> None:
        asked.append(1)
        if len(asked) == 3:
            return
        raise OSError(words)

    patient = policy.RetryPolicy(deadline_s=60.0, first_wait_s=0.001)
    if tries == 1:
        with pytest.raises(OSError, match=words[:6]):
            policy.retry(ask, patient)
    else:
        policy.retry(ask, patient)
    assert len(asked) == tries
