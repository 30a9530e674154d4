from pathlib import Path


def write_report(found, pictures, out: Path) -> Path:
    return out / "report.html"
