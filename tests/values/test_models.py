"""Models come back by their class, and as a dict without it."""

import enum
from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Annotated, Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdall import SerializationError
from holdall.values import serializers
from holdall.values.models import MsgspecSerializer, PydanticSerializer


class Address(pydantic.BaseModel):
    street: str
    since: datetime | None = None


class User(pydantic.BaseModel):
    name: str
    tags: set[str] = set()
    home: Address | None = None
    data: pydantic.Json[Any] = None
    number: Annotated[int, pydantic.Field(alias="Number")] = 0


class Written(pydantic.BaseModel):
    value: Annotated[int, pydantic.Field(serialization_alias="Value")] = 0


class Secret(pydantic.BaseModel):
    password: pydantic.SecretStr


class Number(pydantic.BaseModel):
    value: float


class Computed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    side: int

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")


class Pet(pydantic.BaseModel):
    name: str


class Dog(Pet):
    breed: str = "mixed"


@dataclass
class Leash:
    meters: float


@dataclass
class Rope(Leash):
    colour: str = "red"


class House(pydantic.BaseModel):
    pet: Pet | None = None
    pets: dict[str, list[Pet]] = {}
    leash: Leash | None = None
    guest: Dog | Pet | None = None
    any: Any = None


class Stamp(pydantic.BaseModel):
    when: datetime
    share: float = 0

    @pydantic.field_serializer("when")
    def written(self, value: datetime) -> str:
        return value.strftime("%Y-%m-%d")


class Half(pydantic.BaseModel):
    a: int = 1
    b: int = 2

    @pydantic.model_serializer
    def written(self) -> dict[str, int]:
        return {"a": self.a}


class Spot(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    x: int


class Mark(Spot):
    y: int = 0


class Chart(pydantic.BaseModel):
    spots: frozenset[Spot] = frozenset()
    path: deque[Spot] = deque()
    names: dict[Spot, str] = {}
    scale: float = 1


class Touchy(pydantic.BaseModel):
    value: int

    @pydantic.field_serializer("value")
    def written(self, value: int) -> int:
        return {1: 10}[value]

    @pydantic.field_validator("value")
    @classmethod
    def read(cls, value: int) -> int:
        return {1: 1, 2: 2}[value]


class Jumpy(msgspec.Struct):
    value: int

    def __post_init__(self) -> None:
        {1: 1}[self.value]


class Point(msgspec.Struct):
    x: float
    when: datetime | None = None


class Tagged(msgspec.Struct, tag=True, rename="camel", omit_defaults=True):
    long_name: str = ""


pydantics = PydanticSerializer()
structs = MsgspecSerializer()


@settings(deadline=None)
@given(
    st.text(st.characters(codec="utf-8")),
    st.sets(st.text(st.characters(codec="utf-8"))),
    st.none() | st.datetimes(timezones=st.none() | st.just(UTC)).map(lambda when: when.replace(fold=0)),
)
def test_pydantic_models_come_back(name: str, tags: set[str], since: datetime | None) -> None:
    user = User(name=name, tags=tags, home=Address(street=name, since=since), data="[1]", Number=3)
    data = b"".join(pydantics.encode(user))
    assert pydantics.decode_as(data, User) == user
    assert PydanticSerializer(User).decode(data) == user
    assert pydantics.decode(data)["name"] == name


@pytest.mark.parametrize(
    "model", [Written(value=3), Computed(side=3), Open(a=1, b=[2]), User(name="a")], ids=repr
)
def test_aliases_extras_and_computed_fields_come_back(model: pydantic.BaseModel) -> None:
    data = b"".join(pydantics.encode(model))
    assert pydantics.decode_as(data, type(model)) == model


@pytest.mark.parametrize("model", [Secret(password="abc"), Number(value=float("nan"))], ids=repr)
def test_a_model_that_its_json_does_not_hold_is_refused(model: pydantic.BaseModel) -> None:
    with pytest.raises(SerializationError, match="n't restore it") as caught:
        pydantics.encode(model)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        House(pet=Dog(name="Rex", breed="collie")),
        House(pets={"all": [Pet(name="Tom"), Dog(name="Rex")]}),
        House(leash=Rope(2.0)),
        House(any=Pet(name="Tom")),
        House.model_construct(pet={"name": "Tom"}),
        Pet.model_construct(name=5),
        Stamp(when=datetime(2026, 1, 2, 3)),
        Half(b=5),
        Chart(spots=frozenset([Mark(x=1, y=2)])),
        Chart(path=deque([Mark(x=1)])),
    ],
    ids=repr,
)
def test_what_is_not_written_is_not_lost_in_silence(model: pydantic.BaseModel) -> None:
    with pytest.raises(SerializationError, match="n't restore it: "):
        pydantics.encode(model)


@pytest.mark.parametrize(
    "model",
    [
        Stamp(when=datetime(2026, 1, 2)),
        Half(a=5),
        Chart(),
        Chart(spots=frozenset([Spot(x=1), Spot(x=2)]), path=deque([Spot(x=3)]), scale=2.5),
    ],
    ids=["Stamp", "Half", "defaults", "Chart"],
)
def test_what_is_written_in_a_way_of_its_own_comes_back(model: pydantic.BaseModel) -> None:
    assert pydantics.decode_as(b"".join(pydantics.encode(model)), type(model)) == model


def test_a_subclass_that_the_field_names_comes_back() -> None:
    house = House(guest=Dog(name="Rex", breed="collie"), pet=Pet(name="Tom"), leash=Leash(1.5))
    assert pydantics.decode_as(b"".join(pydantics.encode(house)), House) == house


def test_what_the_code_of_a_model_raises_is_the_cause() -> None:
    for model in (Touchy(value=1), Touchy(value=2)):
        with pytest.raises(SerializationError, match="n't restore it"):
            pydantics.encode(model)
    with pytest.raises(SerializationError, match="Touchy") as caught:
        pydantics.decode_as(b'{"value": 3}', Touchy)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(SerializationError, match="Jumpy") as caught:
        structs.decode_as(b'{"value": 3}', Jumpy)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("struct", [Point(1.5, datetime(2026, 1, 1)), Tagged("a"), Tagged()], ids=repr)
def test_structs_come_back(struct: msgspec.Struct) -> None:
    data = b"".join(structs.encode(struct))
    assert structs.decode_as(data, type(struct)) == struct
    assert MsgspecSerializer(type(struct)).decode(data) == struct
    assert isinstance(structs.decode(data), dict)


def test_a_struct_that_json_does_not_hold_is_refused() -> None:
    with pytest.raises(SerializationError, match="n't restore it"):
        structs.encode(Point(float("nan")))


def test_other_types_can_be_asked_for() -> None:
    assert pydantics.decode_as(b'[{"street": "a"}]', list[Address]) == [Address(street="a")]
    assert structs.decode_as(b'[{"x": 1}]', list[Point]) == [Point(1.0)]


@pytest.mark.parametrize(("serializer", "model"), [(pydantics, User), (structs, Point)])
@settings(deadline=None)
@given(data=st.binary() | st.sampled_from([b"{}", b"[]", b'{"name": 1}', b'{"x": "a"}', b"[" * 5000]))
def test_bad_data_gives_a_serialization_error(serializer: Any, model: type, data: bytes) -> None:
    with pytest.raises(SerializationError, match=model.__name__):
        serializer.decode_as(data, model)
    try:
        serializer.decode(data)
    except SerializationError as error:
        if "JSON" not in str(error):
            raise


def test_the_registry_finds_them_and_reads_their_json_as_json() -> None:
    assert serializers.for_value(User(name="a")).name == "pydantic"
    assert serializers.for_value(Point(1.0)).name == "msgspec"
    assert serializers.for_media_type("application/json").name == "json"  # type: ignore[union-attr]
    assert serializers.for_key("a.json").name == "json"  # type: ignore[union-attr]
    for serializer in (pydantics, structs):
        with pytest.raises(SerializationError, match="got a dict"):
            serializer.encode({"a": 1})


class Role(enum.StrEnum):
    ADMIN = "admin"


class Patch(pydantic.BaseModel):
    name: str | None = None
    mail: str | None = None
    inner: list["Patch"] = []


class Doc(pydantic.BaseModel):
    id: UUID = pydantic.Field(default_factory=uuid4)
    tags: list[str] = []
    note: str = ""
    score: float = 0


@pytest.mark.parametrize(
    "patch", [Patch(), Patch(name="Ada"), Patch(mail=None), Patch(inner=[Patch(name="a"), Patch()])], ids=repr
)
def test_which_fields_were_set_comes_back(patch: Patch) -> None:
    back = pydantics.decode_as(b"".join(pydantics.encode(patch)), Patch)
    assert back.model_fields_set == patch.model_fields_set
    assert back.model_dump(exclude_unset=True) == patch.model_dump(exclude_unset=True)


def test_defaults_that_were_made_or_changed_are_written() -> None:
    doc = Doc()
    doc.tags.append("new")
    back = pydantics.decode_as(b"".join(pydantics.encode(doc)), Doc)
    assert back == doc
    assert type(back.score) is int
    assert back.model_fields_set == {"id", "tags"}
    assert doc.model_fields_set == set()


class Loose(pydantic.BaseModel):
    roles: set[Any] = set()
    named: list[Any] = []
    data: dict[str, Any] = {}
    at: datetime | time | None = None


class Struct(msgspec.Struct):
    data: dict[str, Any] = {}
    score: float = 0.0
    at: datetime | None = None
    opens: time | None = None


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Loose(roles={Role.ADMIN}), "a member of roles: it would come back as a str"),
        (Loose(named=[1, [Role.ADMIN]]), r"named\[1\]\[0\] would come back as a str"),
        (Loose(data={"a": (1,)}), r"data\['a'\] would come back as a list, not as a tuple"),
        (Loose(data={"a": date(2026, 1, 1)}), r"data\['a'\]"),
        (Loose(at=time(9, 30, tzinfo=BERLIN)), "at would come back without its time zone"),
        (Loose(at=datetime(2026, 1, 1, fold=1)), "at would come back with fold=0"),
        (Struct(data={"role": Role.ADMIN}), r"data\['role'\] would come back as a str"),
        (Struct(score=3), "score would come back as a float, not as an int"),
        (Struct(opens=time(9, 30, tzinfo=BERLIN)), "opens would come back without its time zone"),
    ],
    ids=repr,
)
def test_what_would_change_is_refused_by_its_place(model: Any, words: str) -> None:
    serializer = pydantics if isinstance(model, pydantic.BaseModel) else structs
    with pytest.raises(SerializationError, match=words + ".*; convert that value, or annotate its field"):
        serializer.encode(model)


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("kind", [Loose, Struct])
def test_the_hours_of_a_clock_change_are_kept_as_all_others(kind: Any, fold: int) -> None:
    at = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=fold)
    serializer: Any = pydantics if kind is Loose else structs
    back = serializer.decode_as(b"".join(serializer.encode(kind(at=at))), kind)
    assert back.at.astimezone(UTC) == at.astimezone(UTC)


def test_a_struct_without_eq_is_compared_by_its_fields() -> None:
    class Node(msgspec.Struct, eq=False):
        name: str

    back = structs.decode_as(b"".join(structs.encode(Node("a"))), Node)
    assert back.name == "a"
