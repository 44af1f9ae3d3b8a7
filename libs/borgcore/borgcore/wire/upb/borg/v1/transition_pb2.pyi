from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Transition(_message.Message):
    __slots__ = ("frames", "action", "reward", "discount", "k", "checksum")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    DISCOUNT_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    frames: bytes
    action: int
    reward: float
    discount: float
    k: int
    checksum: int
    def __init__(self, frames: _Optional[bytes] = ..., action: _Optional[int] = ..., reward: _Optional[float] = ..., discount: _Optional[float] = ..., k: _Optional[int] = ..., checksum: _Optional[int] = ...) -> None: ...

class ReplaySpec(_message.Message):
    __slots__ = ("game", "stack", "height", "width", "n", "actions", "gamma")
    GAME_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    game: str
    stack: int
    height: int
    width: int
    n: int
    actions: int
    gamma: float
    def __init__(self, game: _Optional[str] = ..., stack: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., n: _Optional[int] = ..., actions: _Optional[int] = ..., gamma: _Optional[float] = ...) -> None: ...
