"""What W&B is asked to do: a run's `logger` group, then W&B's own settings (WANDB_… variables, and what
`wandb offline` and `wandb disabled` wrote), then this project's defaults."""

import contextlib
import functools
import os
import re

from ..config import BadKey
from ..config.tree import Logger
from ..errors import UserError

MODES = ("auto", "online", "offline", "disabled")
PROJECT = "angular-penalty"
LONGEST, LONGEST_TAG = 128, 64  # letters of a name or group, and of a tag: W&B's limits
NO_KEY = "no W&B key here (wandb login)"
# W&B's names of what a logger group holds.
FIELDS = {"project": "project", "entity": "entity", "group": "run_group", "tags": "run_tags"}
# A question to the server that a run is waiting for: one more attempt, then its answer stands.
IMPATIENT = {
    "x_graphql_retry_max": 1,
    "x_graphql_retry_wait_min_seconds": 0.5,
    "x_graphql_retry_wait_max_seconds": 1,
    "x_graphql_timeout_seconds": 4,
}


def own_settings():
    """W&B's settings for this process. Raises UserError for a variable or file that it refuses."""
    import pydantic
    import wandb

    try:
        return wandb.setup(wandb.Settings(silent=True)).settings
    except (pydantic.ValidationError, wandb.errors.Error) as error:
        forget_client()  # else the next call would pass, with half of the settings
        raise UserError(f"W&B's own settings (WANDB_… or `wandb offline`): {in_words(error)}") from None


def forget_client() -> None:
    """End W&B's client process, if it still lives, so that the next run gets another."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)  # its address, left there by one that died


def in_words(error: Exception) -> str:
    """One line for what pydantic or W&B say of a value: `WANDB_MODE=bogus: Input should be …`."""
    if not hasattr(error, "errors"):
        return one_line(str(error))
    first = error.errors()[0]
    name = str(first["loc"][0]).removeprefix("run_") if first["loc"] else "value"
    return f"WANDB_{name.upper()}={first['input']}: {first['msg'].removeprefix('Value error, ')}"


def check_logger(logger: Logger) -> None:
    """Raise BadKey for what W&B would refuse later, a tag or a name, and for TensorBoard if it is not
    installed."""
    if logger.tensorboard:
        from .tensorboard import check_installed

        check_installed()
    if logger.mode == "disabled":
        return
    import pydantic
    import wandb

    for key, field in FIELDS.items():
        value = getattr(logger, key)
        try:
            wandb.Settings(**{field: value})
        except (pydantic.ValidationError, wandb.errors.Error) as error:
            why = error.errors()[0]["msg"] if hasattr(error, "errors") else str(error)
            raise BadKey(f"logger.{key}", value, one_line(why)) from None
    own_settings()


def mode_of(logger: Logger) -> str:
    """online, offline or disabled, as it is asked for; whether W&B can be reached is another matter."""
    if logger.mode != "auto":
        return logger.mode
    own = own_settings().mode
    return {"dryrun": "offline"}.get(own, own if own in MODES else "online")


def why_not_online() -> str | None:
    """Why W&B's server cannot be used, in its own words; None if it takes the key. Asks it, for ten
    seconds at most."""
    import wandb

    # This module is private. Of the public ways, wandb.login() does not check a key that the session
    # has, refuses after a run or where W&B is switched off, and writes the user's settings file;
    # wandb.Api() asks through W&B's client process, and fails for good once that has died.
    from wandb.sdk.lib import wbauth

    settings = own_settings()
    before = {key: getattr(settings, key) for key in IMPATIENT}
    try:
        for key, value in IMPATIENT.items():
            setattr(settings, key, value)
        auth = wbauth.authenticate_session(host=settings.base_url, source="wandb.login()", prompt=False)
        if auth is None:
            return NO_KEY
        auth.verify()
    except wandb.errors.Error as error:
        return f"{settings.base_url}: {reason(error)}"
    finally:
        for key, value in before.items():
            setattr(settings, key, value)
    return None


@functools.cache
def _online() -> None:
    why = why_not_online()
    if why:
        raise UserError(f"logger.mode=online: {why}; mend it, or use logger.mode=auto or offline")


def check_online(logger: Logger) -> None:
    """Raises UserError with the server's reason if `logger.mode=online` cannot be. Asks it once."""
    if logger.mode == "online":
        _online()


def reason(error: Exception) -> str:
    """The heart of what W&B's client says of a failed request, in one line."""
    said = str(error).partition("\nConsider increasing")[0]
    said = re.sub(r"^Failed to (authenticate|verify credentials) with \S+: ", "", said)
    said = re.split(r"while retrying: ", said)[-1]
    said = re.sub(r"^.*?giving up after \d+ attempt\(s\):? ?", "", said)
    said = re.sub(r'^(Post|Put) "[^"]*": ', "", one_line(said))
    if "Client.Timeout" in said or "deadline exceeded" in said or not said:
        return "no answer in time"
    return {"EOF": "the connection was closed"}.get(said, said)


def one_line(text: str) -> str:
    return " ".join(text.split())
