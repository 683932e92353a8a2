"""The scenes of the page: their titles and sentences, in which every number is a path."""

from dataclasses import dataclass

from fbp.show.lesson import Lesson


@dataclass(frozen=True)
class Scene:
    """One scene.

    Attributes:
      title: what happens.
      step: what an article on backpropagation calls it.
      text: sentences, HTML; `{path}` stands for the number at that path, in which `@s` is the step
        that is shown, `@l.@i.@j` the edge that is chosen, `@f` the frame of the film, and `@last`
        the last of a list. A word and a colon before the path say how it is written.
      seconds: how long it plays.
    """

    title: str
    step: str
    text: str
    seconds: float = 5.0


def scenes(lesson: Lesson) -> tuple[Scene, ...]:
    """Return the scenes of a lesson.

    >>> from fbp.show import xor
    >>> [scene.step for scene in scenes(xor())][1:4]
    ['build, random weights', 'set the input, feed forward', 'difference']
    """
    steps = (_poster, _dice, _forward, _difference, _neuron, _back, _blame, _update)
    return (*(step(lesson) for step in steps), _film(lesson), _valley(lesson), _tape(lesson))


EDGE = "<b>{edge:chosen}</b>"


def _poster(lesson: Lesson) -> Scene:
    right = (
        "" if lesson.output == "identity" else
        ", and it is right on {percent:film.right.@last} of the examples"
    )  # fmt: skip
    return Scene(
        "A network that has learned",
        "",
        "This network learned. Nobody set its weights: they were random numbers, and each example "
        f"moved them a little. Its mean loss is now {{film.losses.@last}}{right}. See how, in ten "
        "steps. Press <i>Next</i>.",
        0,
    )


def _dice(_: Lesson) -> Scene:
    return Scene(
        "Random weights",
        "build, random weights",
        "Circles are neurons, lines are edges. An edge's width is how strong its weight is; blue "
        "and solid is positive, orange and dashed is negative. The small square at a neuron is its "
        "bias. At the start all of them are dice, thrown with seed {integer:seed}: the chosen "
        f"edge {EDGE} has the weight {{steps.@s.layers.@l.w.@i.@j}}, and the neuron that it leads "
        "to has the bias {steps.@s.layers.@l.b.@j}.",
        3,
    )


def _forward(lesson: Lesson) -> Scene:
    return Scene(
        "Feed forward",
        "set the input, feed forward",
        "Set the input, and each edge carries what its neuron says, times its weight: on "
        f"{EDGE} {{steps.@s.layers.@l.x.@i}} × {{steps.@s.layers.@l.w.@i.@j}} = "
        "{steps.@s.layers.@l.carried.@i.@j}. The neuron adds what arrives, and its bias: the sum "
        f"a = {{steps.@s.layers.@l.a.@j}}. Then it squashes the sum ({lesson.activation} in hidden "
        f"neurons, {lesson.output} in the output): h = {{steps.@s.layers.@l.h.@j}}.",
    )


def _difference(lesson: Lesson) -> Scene:
    if lesson.output == "softmax":
        start = (
            "Their differences y − t are the error signals of the output neurons: the way back "
            "starts with {steps.@s.layers.@last.d_a.0} for the first."
        )
    else:
        start = (
            "The difference makes the loss, (y − t)² / 2, and the loss's slope, "
            "d_y = y − t = {steps.@s.layers.@last.d_h.0}, starts the way back."
        )
    return Scene(
        "The difference",
        "difference",
        "It should say {steps.@s.t.0}, it says {steps.@s.layers.@last.h.0}. The loss on this "
        f"example is {{steps.@s.loss}}. {start}",
        3,
    )


def _neuron(lesson: Lesson) -> Scene:
    if lesson.output == "softmax":
        text = (
            f"Where {EDGE} ends, the error comes back through the neuron: its signal is "
            "d_a = {steps.@s.layers.@l.d_a.@j}. A steep squashing function lets it through, a flat "
            "one lets little through."
        )
    else:
        text = (
            "The error goes back through the output neuron. At a = {steps.@s.layers.@last.a.0} the "
            "squashing function has the slope {steps.@s.layers.@last.slope.0}, and so "
            "d_a = d_y × slope = {steps.@s.layers.@last.d_h.0} × {steps.@s.layers.@last.slope.0} = "
            "{steps.@s.layers.@last.d_a.0}. A flat curve lets little error through."
        )
    return Scene("Through a neuron", "carry the error back", text, 3)


def _back(_: Lesson) -> Scene:
    return Scene(
        "Along the edges",
        "carry the error back",
        "The error travels the same edges backward, times the same weights: on "
        f"{EDGE} {{steps.@s.layers.@l.d_a.@j}} × {{steps.@s.layers.@l.w.@i.@j}} = "
        "{steps.@s.layers.@l.message.@i.@j}. What arrives at a neuron adds up, and goes through "
        "its slope. Every diamond is a number that fbp's tape holds; their sizes are on one "
        "scale, so that you see the error shrink on its way. At the inputs it has nothing to "
        "adjust.",
    )


def _blame(_: Lesson) -> Scene:
    return Scene(
        "Who is to blame",
        "carry the error back",
        "What the edge carried, and what came back, meet: input × error signal is how much this "
        f"weight acts on the loss. On {EDGE} dL/dw = {{steps.@s.layers.@l.x.@i}} × "
        "{steps.@s.layers.@l.d_a.@j} = {steps.@s.layers.@l.d_w.@i.@j}; for the bias "
        "dL/db = {steps.@s.layers.@l.d_b.@j}. Above zero: a larger weight makes the loss larger.",
        3,
    )


def _update(_: Lesson) -> Scene:
    return Scene(
        "Adjust",
        "adjust",
        "Each weight moves a little against its derivative, w − rate × dL/dw: "
        f"{EDGE} goes from {{steps.@s.layers.@l.w.@i.@j}} to {{steps.@s.layers.@l.w_next.@i.@j}}, "
        "with the learning rate {rate}. Arrows say which way each weight went, and how far. The "
        "loss on this example was {steps.@s.loss} and is now {steps.@s.loss_next}.",
        3,
    )


def _film(lesson: Lesson) -> Scene:
    right = "" if lesson.output == "identity" else "; right on {percent:film.right.@f}"
    return Scene(
        "Again, for all examples",
        "adjust",
        "Now the mean of all examples, again and again: step {integer:film.steps.@f}, mean loss "
        f"{{film.losses.@f}}{right}. Move the slider to any step.",
        9,
    )


def _valley(_: Lesson) -> Scene:
    return Scene(
        "The foggy mountain",
        "adjust",
        "Two weights only, {edge:valley.ends.0} and {edge:valley.ends.1}; all others stand still. "
        "Darker is a smaller loss. You feel only the slope under your feet, and step against it. "
        "The learning rate says how far: {valley.walks.0.rate} {text:valley.walks.0.outcome}, "
        "{valley.walks.1.rate} {text:valley.walks.1.outcome}, {valley.walks.2.rate} "
        "{text:valley.walks.2.outcome}. From a loss of {valley.walks.0.losses.0} they are, after "
        "{integer:valley.steps} steps, at {valley.walks.0.losses.@last}, "
        "{valley.walks.1.losses.@last} and {valley.walks.2.losses.@last}.",
        8,
    )


def _tape(_: Lesson) -> Scene:
    return Scene(
        "Under the hood",
        "",
        "Every number above is an entry of this list: the tape that <code>fbp.tape</code> records. "
        "The forward pass goes down the list, the backward pass up. A reverse mode is no more than "
        "this, and one rule for each primitive.",
        0,
    )
