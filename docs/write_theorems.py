"""Write the theorems of ssm_analysis/certificates/theorems.py into docs/certificates.md, below its last heading.

python docs/write_theorems.py
"""

from pathlib import Path

from ssm_analysis.certificates.theorems import THEOREMS, Theorem

PAGE = Path(__file__).parent / "certificates.md"
MARK = "<!-- From here on this file is written by docs/write_theorems.py from ssm_analysis/certificates/theorems.py. -->\n"


def page(text: str) -> str:
    """The page with its theorems as they are now; what stands in front of the mark stays."""
    before, mark, _ = text.partition(MARK)
    if not mark:
        raise ValueError(f"{PAGE.name} must hold the line {MARK!r}, behind which the theorems go")
    return before + mark + "".join(map(section, THEOREMS.values()))


def section(theorem: Theorem) -> str:
    """Statement, hypotheses, proof and silence of one theorem."""
    parts = {
        "": theorem.statement,
        "*Hypotheses.* ": theorem.hypotheses,
        "*Proof.* ": theorem.proof,
        "*What it does not say.* ": theorem.silent,
    }
    return f"\n### {theorem.key}: {theorem.title}\n" + "".join(f"\n{lead}{escaped(text)}\n" for lead, text in parts.items())


def escaped(text: str) -> str:
    """Stars and angles as themselves."""
    return text.replace("*", r"\*").replace("<", r"\<")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
