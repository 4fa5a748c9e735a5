"""Instruction tasks made by program: seventeen in six clusters, each with exact answers and four templates.

The clusters stand for FLAN's (Zhao et al. 2024): editing for translation, records for structure to text,
inference, sentiment, facts for closed-book questions, reading. Inputs are divided by a hash into
those to train on, those to watch a training by, and those to test on; facts are not, since an answer that
was never shown could not be known.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from veneer.language.instructions.examples import Example
from veneer.tasks.errors import InputError

Make = Callable[[random.Random], tuple[str, str]]
PARTS = 10  # of the inputs, by their hash: two are for testing, one to watch a training by
Use = Literal["train", "watch", "test"]

NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Karl", "Lena")
WORDS = (
    "apple", "bird", "chair", "door", "egg", "fish", "goat", "house", "island", "jar", "king", "lamp", "moon",
    "nest", "ocean", "pen", "queen", "river", "sun", "tree", "violin", "window", "yard", "zebra",
)  # fmt: skip
CITIES = ("Rome", "Oslo", "Paris", "Cairo", "Lima", "Delhi", "Seoul", "Quito", "Bern", "Riga")
JOBS = ("baker", "doctor", "farmer", "painter", "pilot", "singer", "teacher", "writer")
KINDS = ("cats", "dogs", "cups", "hats", "cars", "boats")
COLORS = ("red", "blue", "green", "black", "white", "yellow")
GOOD = ("great", "lovely", "wonderful", "fresh", "friendly", "perfect", "charming", "delightful")
BAD = ("awful", "dull", "dirty", "rude", "broken", "boring", "terrible", "stale")
ASPECTS = ("food", "room", "film", "book", "staff", "music", "view", "service")
FEELINGS = {
    "happy": ("won the race", "got a present", "met an old friend", "passed the test"),
    "sad": ("lost the race", "broke a toy", "said goodbye to a friend", "failed the test"),
    "afraid": ("heard a noise at night", "saw a big spider", "got lost in the dark", "stood on a high wall"),
}
OPPOSITES = {
    "hot": "cold", "big": "small", "up": "down", "day": "night", "open": "closed", "fast": "slow",
    "full": "empty", "old": "new", "wet": "dry", "loud": "quiet", "early": "late", "heavy": "light",
}  # fmt: skip
CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Norway": "Oslo", "Egypt": "Cairo", "Peru": "Lima", "Latvia": "Riga",
    "Spain": "Madrid", "Japan": "Tokyo", "Greece": "Athens", "Kenya": "Nairobi", "Cuba": "Havana",
}  # fmt: skip
YOUNG = {
    "dog": "puppy", "cat": "kitten", "cow": "calf", "sheep": "lamb", "horse": "foal", "hen": "chick",
    "bear": "cub", "goat": "kid", "duck": "duckling", "frog": "tadpole",
}  # fmt: skip
THINGS = ("ball", "book", "key", "cup", "hat", "map")
COUNTED = THINGS[:3]
NUMBERS = range(25)
"""That are compared."""
PRICES = range(2, 60)


@dataclass(frozen=True)
class Instruction:
    """A task.

    Attributes:
        name: of the task.
        cluster: the group it belongs to.
        templates: wordings of the instruction.
        make: draws an input and its answer.
        facts: whether answers can only be known from training.
    """

    name: str
    cluster: str
    templates: tuple[str, ...]
    make: Make
    facts: bool = False


def examples(
    task: Instruction,
    count: int,
    seed: int = 0,
    stream: str = "train",
    templates: Sequence[int] | None = None,
) -> Iterator[Example]:
    """Examples of a task, a pure function of the arguments.

    Args:
        task: one of ``TASKS``.
        count: how many; inputs may repeat.
        seed: of what is drawn.
        stream: "train" takes inputs to train on, "watch" those to watch by; any other name those to test on.
        templates: which wordings, by index; None takes all but the last, which is kept for testing.

    Raises:
        InputError: a negative count, or a template that does not exist.
    """
    if count < 0:
        raise InputError("count", count, "0 or more")
    chosen = range(len(task.templates) - 1) if templates is None else templates
    if not chosen or not all(0 <= index < len(task.templates) for index in chosen):
        raise InputError("templates", tuple(chosen), f"some of 0 to {len(task.templates) - 1}")
    wanted = stream if stream in ("train", "watch") else "test"
    generator = random.Random(f"instructions/{task.name}/{seed}/{stream}")
    made = 0
    while made < count:
        content, answer = task.make(generator)
        if not task.facts and use_of(task.name, content) != wanted:
            continue
        wording = task.templates[generator.choice(chosen)]
        yield Example(wording, content, answer, task.name, task.cluster)
        made += 1


def use_of(task: str, content: str) -> Use:
    """What an input is for."""
    drawn = int.from_bytes(hashlib.sha256(f"{task}\0{content}".encode()).digest()[:4], "little") % PARTS
    return "test" if drawn < 2 else "watch" if drawn == 2 else "train"


def _words(generator: random.Random) -> list[str]:
    return generator.sample(WORDS, generator.randint(2, 4))


def _edited(edit: Callable[[list[str]], str]) -> Make:
    def make(generator: random.Random) -> tuple[str, str]:
        words = _words(generator)
        return " ".join(words), edit(words)

    return make


def _looked_up(table: dict[str, str]) -> Make:
    def make(generator: random.Random) -> tuple[str, str]:
        key = generator.choice(list(table))
        return key, table[key]

    return make


def _person(generator: random.Random) -> tuple[str, str]:
    name, city, job = generator.choice(NAMES), generator.choice(CITIES), generator.choice(JOBS)
    return f"name: {name}; city: {city}; job: {job}", f"{name} lives in {city} and works as a {job}."


def _price(generator: random.Random) -> tuple[str, str]:
    thing, color, price = generator.choice(THINGS), generator.choice(COLORS), generator.choice(PRICES)
    return f"item: {thing}; color: {color}; price: {price}", f"The {color} {thing} costs {price} coins."


def _larger(generator: random.Random) -> tuple[str, str]:
    one, other = generator.sample(NUMBERS, 2)
    return f"{one} is larger than {other}.", "true" if one > other else "false"


def _follows(generator: random.Random) -> tuple[str, str]:
    kind, other = generator.sample(KINDS, 2)
    color, wrong = generator.sample(COLORS, 2)
    name, true = generator.choice(NAMES), generator.random() < 0.5
    premise = f"All {kind} of {name} are {color}. All {other} of {name} are {wrong}."
    said = generator.choice((kind, other))
    fits = color if said == kind else wrong
    claimed = fits if true else (wrong if fits == color else color)
    return f"{premise} So the {said} of {name} are {claimed}.", "true" if true else "false"


def _order(generator: random.Random) -> tuple[str, str]:
    one, two, three = generator.sample(NAMES, 3)
    first, last = generator.sample((one, three), 2)
    claim = f"So {first} came before {last}."
    return f"{one} came before {two}. {two} came before {three}. {claim}", "true" if first == one else "false"


def _review(generator: random.Random) -> tuple[str, str]:
    good = generator.random() < 0.5
    one, two = generator.sample(ASPECTS, 2)
    first, second = generator.sample(GOOD if good else BAD, 2)
    return f"The {one} was {first} and the {two} was {second}.", "good" if good else "bad"


def _feeling(generator: random.Random) -> tuple[str, str]:
    feeling = generator.choice(list(FEELINGS))
    return f"{generator.choice(NAMES)} {generator.choice(FEELINGS[feeling])}.", feeling


def _holder(generator: random.Random) -> tuple[str, str]:
    thing, people = generator.choice(THINGS), generator.sample(NAMES, 3)
    return (
        f"{people[0]} has a {thing}. {people[0]} gives the {thing} to {people[1]}. "
        f"{people[1]} gives the {thing} to {people[2]}.",
        people[2],
    )


def _place(generator: random.Random) -> tuple[str, str]:
    people, cities = generator.sample(NAMES, 3), generator.sample(CITIES, 3)
    asked = generator.randrange(3)
    told = " ".join(f"{name} is in {city}." for name, city in zip(people, cities, strict=True))
    return f"{told} Where is {people[asked]}?", cities[asked]


def _count(generator: random.Random) -> tuple[str, str]:
    words = generator.choices(COUNTED, k=generator.randint(2, 4))
    asked = generator.choice(COUNTED)
    return f"There is a {', a '.join(words)}. How many times is there a {asked}?", str(words.count(asked))


TASKS: tuple[Instruction, ...] = (
    Instruction(
        "copy",
        "editing",
        ("Repeat the words.", "Say the words again.", "Copy this.", "Write the same."),
        _edited(" ".join),
    ),
    Instruction(
        "reverse",
        "editing",
        (
            "Turn the order of the words around.",
            "Write the words backwards.",
            "Reverse this.",
            "Begin with the last word and end with the first.",
        ),
        _edited(lambda words: " ".join(reversed(words))),
    ),
    Instruction(
        "sort",
        "editing",
        (
            "Put the words in the order of the alphabet.",
            "Sort the words.",
            "Order this from A to Z.",
            "Write the words as a dictionary lists them.",
        ),
        _edited(lambda words: " ".join(sorted(words))),
    ),
    Instruction(
        "last",
        "editing",
        (
            "Say the last word only.",
            "Which word is the last?",
            "Give the final word.",
            "What does the list end with?",
        ),
        _edited(lambda words: words[-1]),
    ),
    Instruction(
        "person",
        "records",
        (
            "Tell who this is.",
            "Write a sentence about the person.",
            "Make a sentence of the record.",
            "Describe the entry.",
        ),
        _person,
    ),
    Instruction(
        "price",
        "records",
        (
            "Tell what it costs.",
            "Write a sentence about the item.",
            "Make a sentence of the price tag.",
            "Describe what is sold.",
        ),
        _price,
    ),
    Instruction(
        "larger",
        "inference",
        ("True or false?", "Is that true?", "Check the numbers.", "Say true if it is right, else false."),
        _larger,
    ),
    Instruction(
        "follows",
        "inference",
        (
            "Does it follow?",
            "Is the last sentence true?",
            "Check the conclusion.",
            "Say true if the end follows, else false.",
        ),
        _follows,
    ),
    Instruction(
        "order",
        "inference",
        (
            "Is the order right?",
            "Does the end fit the beginning?",
            "Check who came first.",
            "Say true if the order fits, else false.",
        ),
        _order,
    ),
    Instruction(
        "review",
        "sentiment",
        (
            "Was it good or bad?",
            "Judge the review.",
            "What does the guest think?",
            "Did they like it? Say good or bad.",
        ),
        _review,
    ),
    Instruction(
        "feeling",
        "sentiment",
        ("How does the person feel?", "Name the feeling.", "Happy, sad or afraid?", "What is the mood?"),
        _feeling,
    ),
    Instruction(
        "opposite",
        "facts",
        (
            "Give the opposite.",
            "What is the contrary?",
            "Name the word that means the reverse.",
            "Say what it is not.",
        ),
        _looked_up(OPPOSITES),
        True,
    ),
    Instruction(
        "capital",
        "facts",
        (
            "Name the capital.",
            "What is the capital of this country?",
            "Which city governs it?",
            "Give the main city.",
        ),
        _looked_up(CAPITALS),
        True,
    ),
    Instruction(
        "young",
        "facts",
        (
            "What is its young called?",
            "Name the baby animal.",
            "Give the word for its child.",
            "How do we call a little one?",
        ),
        _looked_up(YOUNG),
        True,
    ),
    Instruction(
        "holder",
        "reading",
        ("Who has it now?", "Say who holds it at the end.", "Whose hands is it in?", "Who got it last?"),
        _holder,
    ),
    Instruction(
        "place",
        "reading",
        (
            "Answer the question.",
            "Read and answer.",
            "Find the answer in the text.",
            "Look it up in the text.",
        ),
        _place,
    ),
    Instruction(
        "count",
        "reading",
        ("Count and answer.", "How many are there?", "Give the number.", "Read the list and count."),
        _count,
    ),
)

HELD_OUT = ("last", "order", "young", "place")
"""Tasks kept to ask whether a map of layers carries over to unseen tasks (the paper holds out seven)."""


def named(name: str) -> Instruction:
    """The task of a name.

    Raises:
        InputError: there is none.
    """
    found = {task.name: task for task in TASKS}
    if name not in found:
        raise InputError("task", name, ", ".join(found))
    return found[name]
