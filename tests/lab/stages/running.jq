# Whether the faulty container runs.
(.metadata.annotations // {}) as $a
| ($a["fault.smokejumper.dev/container"] // .spec.containers[0].name) as $name
| ((.status.containerStatuses // []) | map(select(.name == $name)) | .[0].state.running) != null
