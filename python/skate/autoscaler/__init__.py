"""Nodes that come when something waits for them, and go when nothing needs them.

The autoscaler is one process beside the control store (`skate.autoscaler._monitor`): once a second
it looks at what waits (tasks, actors, placement groups, `request_resources()`), decides by rules
(`skate.autoscaler._policy`) and lets a provider start and end nodes (`skate.autoscaler._provider`).
`docs/autoscaler.md` has the file that describes a cluster. Ray's page:
https://docs.ray.io/en/latest/cluster/vms/references/ray-cluster-configuration.html
"""
