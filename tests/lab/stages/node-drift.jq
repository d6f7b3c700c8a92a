# Whether the node's status is not what its annotations ask for; conditions that others than the kubelet write are theirs.
(.metadata.annotations // {}) as $a
| ($a["fault.smokejumper.dev/condition"] // "Ready=True") as $wanted
| ([(.status.conditions // [])[] | "\(.type)=\(.status)"]) as $have
| (.status.capacity["nvidia.com/gpu"] // "none") as $capacity
| (.status.allocatable["nvidia.com/gpu"] // "none") as $allocatable
| (if $capacity == "none" then false else $allocatable != ($a["fault.smokejumper.dev/gpus"] // $capacity) end) as $gpus
| ([(.status.conditions // [])[] | select(.type == ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")) | select((.type == "Ready" and .status != "True") or (.type != "Ready" and .status != "False")) | "\(.type)=\(.status)"]) as $bad
| ((.status.nodeInfo.kubeletVersion // "") == "") or ($have | index($wanted) | not) or $gpus or (($bad - [$wanted]) | length > 0)
