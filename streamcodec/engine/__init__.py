"""Many sessions of one codec on one thread: their steps are batched, their results are those of single streams.

>>> engine = Engine(codec, slots=32)
>>> session = engine.open("roundtrip", bandwidth=6.0)
>>> engine.feed(session, pcm)                     # float32 [1, channels, n], any n
>>> for delivery in engine.step():
...     send(delivery.session, delivery.audio)
"""

from .engine import Engine
from .figures import EngineFigures, LaneFigures, SessionFigures, StepTime
from .session import Delivery, Direction, Session

__all__ = ["Delivery", "Direction", "Engine", "EngineFigures", "LaneFigures", "Session", "SessionFigures", "StepTime"]
