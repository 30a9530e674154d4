"""Tab completion of the installed command: its own words, and Hydra's for a configuration."""

import contextlib
import io
import os
import sys
from pathlib import Path

from . import COMMANDS, NAME

SCRIPT = """_angular_penalty() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        [ -n "$line" ] && COMPREPLY+=("$line")
    done < <(%s --complete "${COMP_LINE:0:$COMP_POINT}")
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _angular_penalty %s"""
CONFIGURED = ("train", "evaluate", "embed", "outliers")  # commands that take keys and groups


def script(shell: list[str]) -> str:
    """What a shell is to evaluate: `eval "$(angular-penalty --completion bash)"`."""
    begin = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"
    return (begin if shell == ["zsh"] else "") + SCRIPT % (NAME, NAME)


def complete(line: list[str], root: Path) -> str:
    """The words that may stand where a command line ends, one a line."""
    words = "".join(line).split()[1:]
    if "".join(line).endswith(" "):
        words.append("")
    if len(words) < 2:
        begun = words[0] if words else ""
        return "\n".join(f"{name} " for name in COMMANDS if name.startswith(begun))
    if words[0] not in CONFIGURED:
        return ""
    typed, last = [word for word in words[1:-1] if "=" in word], words[-1]  # without runs and images
    return "\n".join(with_space(each) for each in configured([*typed, last], root))


def with_space(word: str) -> str:
    return word if word.endswith(("=", ".", "/")) else f"{word} "


def configured(words: list[str], root: Path) -> list[str]:
    """Groups, choices, keys and values, as Hydra completes them."""
    sys.path.insert(0, str(root))
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.plugins.completion_plugin import CompletionPlugin

    import src.config.compose  # noqa: F401 (it registers the keys)

    found = Plugins.instance().discover(CompletionPlugin)
    bash = next(plugin for plugin in found if plugin.provides() == "bash")
    os.environ["COMP_LINE"] = " ".join([NAME, *words])
    with initialize_config_dir(str(root / "conf"), version_base="1.3"), io.StringIO() as said:
        with contextlib.redirect_stdout(said):
            bash(GlobalHydra.instance().config_loader()).query("train")
        return said.getvalue().split()
