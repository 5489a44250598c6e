"""What the command line asks beyond `ssm_analysis.verify`: one layer by name, the name of its norm, progress."""

from ssm_analysis.certificates.question import DTYPES, Question
from ssm_analysis.checkpoint.loading import find_layers
from ssm_analysis.checkpoint.read_options import ReadOptions
from ssm_analysis.verification.checkpoints import Bound, verify_layers


def verified(source, *, layer=None, progress=None, norm_name=None, dtypes=DTYPES, **read):
    with find_layers(source, ReadOptions(**read)) as checkpoint:
        question, bound = Question(dtypes=dtypes), Bound(norm_name=norm_name)
        return verify_layers(checkpoint, question, bound, layer=layer, progress=progress)
