"""Benchmarks of advfeat: ``python -m benchmarks [attacks|machine|growth|training|scale|all]``.

``machine.py`` says what the machine is and can do, ``workload.py`` makes the images and the models,
``attacks.py``, ``growth.py`` and ``training.py`` measure with the clocks of ``measure.py``, ``scale.py`` what
orchestration costs,
``report.py`` prints and saves. Nothing of advfeat imports this package.
"""
