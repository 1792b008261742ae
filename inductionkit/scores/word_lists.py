"""English words for prompts: four categories, and rare words that few tokenizers have as one token."""

from __future__ import annotations

MONTHS = "January February March April May June July August September October November December".split()
COLOURS = "red blue green yellow black white brown purple orange pink grey gold silver violet scarlet turquoise".split()
ANIMALS = (
    "lizard dog cat horse cow sheep goat pig lion tiger bear wolf fox rabbit mouse rat snake frog duck goose eagle owl "
    "whale shark dolphin monkey elephant camel deer donkey"
).split()
FRUITS = (  # none of them a colour, and no two that share a part, as strawberry and blueberry do
    "banana apple pear grape cherry lemon lime mango melon fig plum apricot kiwi papaya coconut strawberry tangerine "
    "guava date currant pomegranate olive quince lychee avocado"
).split()

RARE_WORDS = (
    "armadillo rhododendron hippopotamus chrysanthemum accordion tambourine asparagus zucchini cauliflower artichoke "
    "platypus chinchilla salamander porcupine wolverine mongoose albatross cormorant flamingo nightingale woodpecker "
    "barracuda sturgeon anchovy barnacle millipede dragonfly grasshopper tarantula xylophone clarinet harpsichord "
    "bassoon ukulele mandolin didgeridoo balalaika gondola catamaran schooner rickshaw toboggan kaleidoscope "
    "metronome gyroscope periscope stethoscope thermos corkscrew wheelbarrow scarecrow chandelier candelabra tapestry "
    "tablecloth doorknob windowpane drawbridge portcullis minaret obelisk pergola veranda labyrinth amphitheatre "
    "gargoyle marzipan butterscotch gingerbread pumpernickel lasagna tortellini guacamole chutney horseradish marjoram "
    "oregano tarragon eucalyptus sycamore hawthorn honeysuckle marigold snapdragon buttercup forsythia bougainvillea "
    "limestone sandstone obsidian amethyst turmeric malachite stalactite archipelago escarpment estuary tributary "
    "blacksmith locksmith haberdasher troubadour ventriloquist chauffeur sommelier cartographer lumberjack swashbuckler"
).split()
