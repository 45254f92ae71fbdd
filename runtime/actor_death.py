"""What Ray raises for a call of an actor that is gone.

RayActorError is not all: of an actor that was killed for want of memory, or with its machine, the reason
itself is raised.
"""

import ray

ACTOR_IS_GONE = (
    ray.exceptions.RayActorError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.LocalRayletDiedError,
)
