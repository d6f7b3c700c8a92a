# The first pull fails at once, the next ones are tried every 10 s.
(.metadata.annotations // {}) as $a
| ($a["fault.smokejumper.dev/container"] // .spec.containers[0].name) as $name
| if ((.status.containerStatuses // []) | map(select(.name == $name)) | .[0].state.waiting.reason) == "ImagePullBackOff" then "10s" else "200ms" end
