# How long a one-shot container runs.
.metadata.annotations["lab.smokejumper.dev/runs-for"] // "1s"
