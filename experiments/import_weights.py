"""Makes a work directory from published weights, for `evaluate`, `predict` and `stream`.

    python -m experiments.import_weights --weights=PATH --model=NAME --labels=FILE --workdir=RUN [--flow=dis|farneback|tvl1]

PATH is a file with the weights of a whole video network, or the address of such a file (docs/pretrained.md lists some).
NAME is a network of vidcls.models. FILE has the class names, one a line, in the order of the classes in the weights.
RUN/weights.json says where the parameters came from. Of a network of optical flow, --flow, --flow_preset and --flow_bound
say how the flow was computed that it was trained on, such as --flow=tvl1; without them it is given flow of --flow=dis.
"""

from absl import flags, logging

from data_prep import flow_flags
from experiments import launch
from vidcls.errors import UserError

_WORKDIR = flags.FLAGS['workdir']  # defined in launch
_WEIGHTS = flags.DEFINE_string('weights', None, 'File of weights, or an hf:// or https:// address.')
_MODEL = flags.DEFINE_string('model', None, 'Name of the network, such as timesformer_base.')
_LABELS = flags.DEFINE_string('labels', None, 'File of class names, one a line.')
_FLOW = flow_flags.define(None)


def main(argv: list[str]) -> None:
    from vidcls.pretrained import import_run

    if argv:
        raise UserError(f'unexpected argument {argv[0]!r}')
    run = import_run.import_run(_WEIGHTS.value, _MODEL.value, _LABELS.value, _WORKDIR.value, _FLOW())
    logging.info('%s: %s with %d classes', run.folder, run.config.model.name, len(run.labels))


if __name__ == '__main__':
    flags.mark_flags_as_required(['workdir', 'weights', 'model', 'labels'])
    launch.run(main, __doc__)
