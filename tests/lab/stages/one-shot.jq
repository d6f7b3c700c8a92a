# Whether the pod's containers are not to be restarted after they exit 0.
.spec.restartPolicy != "Always"
