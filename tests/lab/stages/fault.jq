# The fault that this pod shows now, or "none". Annotations of the pod (all under fault.smokejumper.dev/):
#   kind            which fault
#   container       which container has it (default: the first)
# and conditions on the pod's spec, all of which must hold, so that a repaired spec clears the fault:
#   while           the containers' JSON contains this text (an image tag, an environment value, an argument)
#   needs-memory    the container's memory limit is below this quantity
#   listens-on      the probe of the fault's kind asks another port than this one
#   missing-config  the container refers to this ConfigMap or Secret
def bytes: capture("^(?<n>[0-9.]+)(?<u>[A-Za-z]*)$")
  | (.n | tonumber) * ({"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 1024, "Mi": 1048576, "Gi": 1073741824, "Ti": 1099511627776}[.u]);
(.metadata.annotations // {}) as $a
| ($a["fault.smokejumper.dev/kind"] // "none") as $kind
| ((.spec.initContainers // []) + .spec.containers) as $all
| ($a["fault.smokejumper.dev/container"] // .spec.containers[0].name) as $name
| ($all | map(select(.name == $name)) | .[0]) as $c
| (if $kind == "liveness" then $c.livenessProbe else $c.readinessProbe end) as $probe
| (($probe.httpGet // $probe.tcpSocket // $probe.grpc // {}).port) as $asked
| (if ($asked | type) == "string" then ([$c.ports[]? | select(.name == $asked) | .containerPort] | .[0]) else $asked end) as $port
| [
    (if $a["fault.smokejumper.dev/while"] then ($all | tojson | contains($a["fault.smokejumper.dev/while"])) else true end),
    (if $a["fault.smokejumper.dev/needs-memory"] then (($c.resources.limits.memory // "1024Ti") | bytes) < ($a["fault.smokejumper.dev/needs-memory"] | bytes) else true end),
    (if $a["fault.smokejumper.dev/listens-on"] then $port != null and ($port | tostring) != $a["fault.smokejumper.dev/listens-on"] else true end),
    (if $a["fault.smokejumper.dev/missing-config"] then ($c | tojson | contains("\"name\":\"" + $a["fault.smokejumper.dev/missing-config"] + "\"")) else true end)
  ]
| if all then $kind else "none" end
