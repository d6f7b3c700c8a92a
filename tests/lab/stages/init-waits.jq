# Whether the faulty container is an init container that is still to be shown running.
(.metadata.annotations // {}) as $a
| ((.status.initContainerStatuses // []) | map(select(.name == $a["fault.smokejumper.dev/container"])) | .[0]) as $s
| $s != null and $s.state.running == null
