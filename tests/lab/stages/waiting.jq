# Why the faulty container waits, or "none".
(.metadata.annotations // {}) as $a
| ($a["fault.smokejumper.dev/container"] // .spec.containers[0].name) as $name
| ((.status.initContainerStatuses // []) + (.status.containerStatuses // [])) | map(select(.name == $name)) | .[0].state.waiting.reason // "none"
