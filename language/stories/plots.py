"""What a plot is: the events of one kind of story, each in several wordings, in order of cause and effect.

A story wants something, goes about it, meets a trouble that has a cause, tries, and is saved or not. The
features of ``veneer.language.stories.features`` are events of their own: an omen names the later cause of the
trouble; a twist is a belief and what turns out; a lesson is what the trouble teaches.

In wordings, ``{slot}`` stands for a word of the story (``veneer.language.stories.generator`` fills it) and
``[one|another]`` for a choice. What is told and spoken is a pair, first without and then with direct speech.
"""

from dataclasses import dataclass

Pair = tuple[str, str]


@dataclass(frozen=True)
class Plot:
    """One kind of story.

    Attributes:
        name: of the plot.
        things: what it is about; one becomes ``{thing}``.
        looks: how that may look; one becomes ``{look}``.
        places: where; one becomes ``{place}``.
        wants: what the hero has or wishes for.
        going: how hero and friend set about it.
        omens: an early sign of the cause, passed over by the hero; its word comes first here.
        troubles: the cause, by the same word, and its effect.
        attempts: what they try in vain; told and spoken.
        twists: what the hero believes and how it turns out, with the helper in it.
        rescues: how the helper puts it right; told and spoken.
        losses: how it goes wrong for good.
        lessons: what it teaches.
        summary: of the story up to the trouble.
        saved: of a good end.
        lost: of a bad end.
    """

    name: str
    things: tuple[str, ...]
    looks: tuple[str, ...]
    places: tuple[str, ...]
    wants: tuple[str, ...]
    going: tuple[str, ...]
    omens: tuple[str, ...]
    troubles: tuple[str, ...]
    attempts: tuple[Pair, ...]
    twists: tuple[Pair, ...]
    rescues: tuple[Pair, ...]
    losses: tuple[str, ...]
    lessons: tuple[str, ...]
    summary: str
    saved: str
    lost: str
