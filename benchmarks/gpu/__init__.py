"""All that a GPU can show of advfeat, in a limited time: ``python -m benchmarks gpu --data SOURCE``.

It needs torch, NumPy, pandas, pyarrow, pydantic and safetensors; other attack libraries and pytest are used
where they are installed. ``command.py`` runs the parts in their order, ``clock.py`` gives each its time, and
``record.py`` prints and saves what each found, at once: a run that is ended early leaves what it measured.
"""
