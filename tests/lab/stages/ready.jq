# Whether the pod has the condition Ready=True.
[(.status.conditions // [])[] | select(.type == "Ready" and .status == "True")] | length > 0
