"""Plots out of doors: a kite in a tree, a lost key, a boat, a castle of sand, the way home, a sled.

How a plot is written, ``veneer.language.stories.plots`` says.
"""

from veneer.language.stories.plots import Plot

KITE = Plot(
    name="kite",
    things=("kite", "balloon", "paper plane", "cap"),
    looks=("red", "yellow", "blue", "new", "light"),
    places=("the park", "the meadow", "the hill behind the school", "the big field"),
    wants=(
        "{she} had a {look} {thing} that {she} [loved very much|took everywhere].",
        "For {her} birthday {she} had been given a {look} {thing}.",
        "{her} grandmother had made {him} a {look} {thing}.",
    ),
    going=(
        "After breakfast {she} went to {place} with {her} friend {pal} to play with the {thing}.",
        "{she} took the {thing} to {place}, where {her} friend {pal} was already waiting.",
        "{she} and {pal} ran to {place} and let the {thing} go up into the air.",
    ),
    omens=(
        "On the way the [first gusts|gusts] of wind shook the bushes, but {hero} {ignored}.",
        "Far away a gust of wind bent the grass, but {hero} {ignored}.",
        "A gust of wind blew {pal}'s hat off, but {hero} {ignored}.",
    ),
    troubles=(
        "A strong gust of wind came and carried the {thing} up into [a tall tree|the top of an old oak].",
        "All at once a gust of wind pulled the {thing} out of {her} hands, and it got stuck in a tall tree.",
        "Because a gust of wind caught it, the {thing} flew away and stayed hanging in a tall tree.",
    ),
    attempts=(
        (
            "They threw a stick at it, but the branches were too high.",
            '"Let us throw a stick at it!" said {pal}. But the branches were too high.',
        ),
        (
            "{pal} told {him} to jump, but even the best jump was not high enough.",
            '"Jump, {hero}, jump!" called {pal}. But even {her} best jump was not high enough.',
        ),
        (
            "They shook the trunk as hard as they could, but the {thing} did not come down.",
            '"We must shake the tree," said {hero}. They shook it hard, but the {thing} did not come down.',
        ),
    ),
    twists=(
        (
            "Then something big moved behind the leaves, and {hero} was sure that it was a bear.",
            "It was not a bear at all. It was {helper}, who had climbed up to look for a lost cat!",
        ),
        (
            "A dark shape came down the trunk, and {hero} thought that it was a monster.",
            "But it was not a monster at all. It was {helper}, who had been sitting up there with a book!",
        ),
    ),
    rescues=(
        (
            "{helper} fetched a long ladder, climbed up and brought the {thing} down.",
            '"Wait, I have a long ladder," said {helper}. A little later the {thing} was down again.',
        ),
        (
            "{helper} lifted {hero} up high, and so {she} could reach the {thing}.",
            '"Get on my shoulders," said {helper}. From up there {hero} could reach the {thing}.',
        ),
    ),
    losses=(
        "Then a sharp branch tore the {thing}, and only small pieces fell to the ground.",
        "But before anybody could help, the {thing} flew off over the roofs and was never seen again.",
    ),
    lessons=(
        "asking for help is better than giving up",
        "some things are too high to reach alone",
        "it is wise to hold on to what you love",
    ),
    summary="{hero} and {pal} play with a {thing} until it gets stuck in a tree.",
    saved="{helper} gets it down.",
    lost="In the end it is gone.",
)

KEY = Plot(
    name="key",
    things=("key", "ring", "coin", "button", "whistle"),
    looks=("golden", "silver", "tiny", "shiny", "old"),
    places=("the market", "the village square", "the orchard", "the river path"),
    wants=(
        "{she} owned a {look} {thing} and kept it in {her} coat all day.",
        "{her} grandfather had given {him} a {look} {thing} for luck.",
        "In the attic {she} had found a {look} {thing}, and now {she} carried it around.",
    ),
    going=(
        "One morning {she} went to {place} with {her} friend {pal} to show {pal_him} the {thing}.",
        "At noon {she} met {pal} at {place}, and they played hide and seek.",
        "{she} went to {place} to meet {pal}, and the two of them ran and jumped a lot.",
    ),
    omens=(
        "There was a small hole in {her} pocket, but {hero} {ignored}.",
        "{her} mother had said something about a hole in the pocket, but {hero} {ignored}.",
        "{her} finger slipped through a hole in {her} pocket, but {hero} {ignored}.",
    ),
    troubles=(
        "When {hero} reached into {her} coat, the {thing} was gone: it had fallen through a hole.",
        "Later {hero} put a hand into {her} pocket and found a hole there, but no {thing}.",
        "Suddenly {hero} stopped, because the {thing} had slipped out through a hole in {her} coat.",
    ),
    attempts=(
        (
            "They looked under every bench, but they found only dry leaves.",
            '"Look under the benches!" cried {pal}. But there were only dry leaves.',
        ),
        (
            "{pal} wanted to look in the grass, and they searched until their knees were green.",
            '"It must be in the grass," said {pal}. They searched until their knees were green.',
        ),
        (
            "They asked an old man with a dog, but he had not seen it.",
            '"Have you seen my {thing}?" asked {hero}. The old man with the dog shook his head.',
        ),
    ),
    twists=(
        (
            "A black crow flew off with something bright, and {hero} was sure that the crow had taken it.",
            "But the crow had not taken it at all. It was a spoon, and it belonged to {helper}!",
        ),
        (
            "A boy was running away, and {hero} thought that the boy was a thief.",
            "But the boy was not a thief at all. He had run to fetch {helper}, who finds everything!",
        ),
    ),
    rescues=(
        (
            "{helper} held up the {thing} and asked whose it was, and {hero} jumped for joy.",
            '"Does this {thing} belong to you?" asked {helper}. {hero} jumped for joy.',
        ),
        (
            "{helper} told them to walk back step by step, and there lay the {thing} between two stones.",
            '"Walk back step by step," said {helper}. And there lay the {thing} between two stones.',
        ),
    ),
    losses=(
        "Then it got dark, and they had to go home without the {thing}.",
        "They searched for three days, but the {thing} had rolled into the river.",
    ),
    lessons=(
        "a small hole should be mended before it grows",
        "you should look after the things that you love",
        "it is good to keep your eyes open",
    ),
    summary="{hero} shows {pal} a {look} {thing} and loses it at {place}.",
    saved="With {helper} it is found again.",
    lost="They never find it.",
)

BOAT = Plot(
    name="boat",
    things=("boat", "paper ship", "wooden duck", "raft"),
    looks=("white", "green", "little", "wooden", "fast"),
    places=("the pond", "the lake", "the stream", "the pool in the garden"),
    wants=(
        "{she} had built a {look} {thing} all by {herself}.",
        "{she} and {her} father had made a {look} {thing} out of old things.",
        "{she} had saved up for a {look} {thing}, and now it was {hers}.",
    ),
    going=(
        "{she} tied it to a line and carried it to {place}, and {her} friend {pal} came along.",
        "On Sunday {she} and {pal} let the {thing} swim on {place}.",
        "{pal} wanted to see it swim, so they took it to {place}.",
    ),
    omens=(
        "The string was thin and a little torn, but {hero} {ignored}.",
        "A mouse had chewed the string in the night, but {hero} {ignored}.",
        "The knot in the string was loose, but {hero} {ignored}.",
    ),
    troubles=(
        "In the middle of the water the string broke, and the {thing} drifted away.",
        "Then the string came off, so that the {thing} floated out to where the water was deep.",
        "A wave pulled so hard that the string broke, and the {thing} sailed off alone.",
    ),
    attempts=(
        (
            "{hero} reached for it with a stick, but the stick was too short.",
            '"Give me that stick!" cried {hero}. But the stick was too short.',
        ),
        (
            "{pal} wanted to splash it back with stones, but that only pushed it farther away.",
            '"I will splash it back with stones," said {pal}. But that only pushed it farther away.',
        ),
        (
            "They ran along the shore and blew as hard as they could, but it did not turn around.",
            '"Blow!" called {pal}. They both blew hard, but it did not turn around.',
        ),
    ),
    twists=(
        (
            "Something under the water began to pull the {thing}, and {hero} believed that it was a monster.",
            "But it was not a monster at all. It was a turtle, and {helper} was swimming behind it!",
        ),
        (
            "A shadow with a long beak came closer, and {hero} was sure that a stork wanted to break it.",
            "But the stork did not want to break it at all. It lived with {helper} and was quite tame!",
        ),
    ),
    rescues=(
        (
            "{helper} rowed out and came back with the {thing}.",
            '"I will row out and get it," said {helper}, and soon the {thing} was back on land.',
        ),
        (
            "{helper} threw a net over the {thing} and pulled it gently to the shore.",
            '"Step back, here comes my net!" called {helper}, and gently pulled the {thing} to the shore.',
        ),
    ),
    losses=(
        "Soon the {thing} was full of water, and it sank without a sound.",
        "The water carried the {thing} over the edge of the dam, and it broke into pieces.",
    ),
    lessons=(
        "you should check your things before you use them",
        "a good knot is worth a little time",
        "deep water is no place for children alone",
    ),
    summary="{hero} lets a {look} {thing} swim, but it gets away from {him} and {pal}.",
    saved="{helper} brings it back.",
    lost="It does not come back.",
)

CASTLE = Plot(
    name="castle",
    things=("castle", "tower", "fort", "bridge"),
    looks=("tall", "huge", "fine", "round", "pretty"),
    places=("the beach", "the bay", "the seaside", "the sandy shore"),
    wants=(
        "{she} wanted to build the most beautiful {thing} in the world.",
        "All week {she} had dreamed of building a {look} {thing}.",
        "{she} loved sand more than anything, and today {she} was going to build a {look} {thing}.",
    ),
    going=(
        "At {place} {she} met {pal}, and they began to dig.",
        "{she} and {her} friend {pal} carried their buckets to {place} and set to work.",
        "With {pal} {she} went to {place}, and by noon the {thing} had walls and a door of shells.",
    ),
    omens=(
        "Every wave came a bit closer than the one before, but {hero} {ignored}.",
        "A wave had wet their shoes already, but {hero} {ignored}.",
        "Far out a wave with a white top was rolling in, but {hero} {ignored}.",
    ),
    troubles=(
        "Then a wave ran up the sand, and half of the {thing} was washed away.",
        "All of a sudden a wave came over the wall, so that the {thing} fell down.",
        "They had just put a flag on top when a wave knocked the {thing} over.",
    ),
    attempts=(
        (
            "They dug a ditch around it, but the water filled it at once.",
            '"Dig a ditch!" shouted {pal}. But the water filled it at once.',
        ),
        (
            "{hero} tried to hold the walls with both arms, but the wet sand ran through {her} fingers.",
            '"I can hold it!" cried {hero}. But the wet sand ran through {her} fingers.',
        ),
        (
            "They put stones in front of it, but the sea was stronger than stones.",
            '"We need stones," said {pal}. But the sea was stronger than stones.',
        ),
    ),
    twists=(
        (
            "There were marks of feet in the sand, and {hero} thought that a giant was near.",
            "But it was not a giant at all. It was {helper}, with big rubber boots and a smile!",
        ),
        (
            "Then {she} saw a fin between the rocks and believed that it was a shark.",
            "But it was not a shark at all. It was {helper}, who was swimming with a board!",
        ),
    ),
    rescues=(
        (
            "{helper} showed them a dry place higher up, and there they built it again, twice as big.",
            '"Build it higher up," said {helper}. There they built it again, twice as big.',
        ),
        (
            "{helper} brought a spade and some boards, and together they made a {thing} that stood firm.",
            '"Let us make it strong," said {helper}, and with boards they made a {thing} that stood firm.',
        ),
    ),
    losses=(
        "The water did not stop, and in the end there was only flat sand.",
        "When the sun went down, nothing was left of the {thing}, and they had to leave.",
    ),
    lessons=(
        "it pays to build on safe ground",
        "you can always begin again",
        "many hands make the work light",
    ),
    summary="{hero} and {pal} build a {thing} of sand, and the sea washes it away.",
    saved="{helper} helps them to build it again.",
    lost="Nothing is left of it.",
)

WOODS = Plot(
    name="woods",
    things=("basket", "bag", "bucket", "jar"),
    looks=("big", "empty", "deep", "clean", "light"),
    places=("the forest", "the woods", "the dark wood", "the pine forest"),
    wants=(
        "{she} wanted to fill a {look} {thing} with berries for {her} mother.",
        "{her} aunt had lent {him} a {look} {thing}, and {she} wished to fill it with mushrooms.",
        "{she} liked berries best of all, and {she} took a {look} {thing} along.",
    ),
    going=(
        "With {her} friend {pal} {she} walked into {place}, where the sweetest berries grow.",
        "{pal} knew a good spot in {place}, and so they went there together.",
        "{she} and {pal} sang while they walked deeper into {place}.",
    ),
    omens=(
        "A cold fog was creeping out of the valley, but {hero} {ignored}.",
        "Between the trunks there hung a bit of fog, but {hero} {ignored}.",
        "A farmer had warned them of the fog, but {hero} {ignored}.",
    ),
    troubles=(
        "Then thick fog came, and they could not see the path any more.",
        "When the {thing} was half full, fog lay over everything, and they had lost their way.",
        "Because of the fog they took a wrong turn, and soon all the trees looked alike.",
    ),
    attempts=(
        (
            "They called as loudly as they could, but only an owl answered.",
            '"Hello! Is anybody there?" called {hero}. Only an owl answered.',
        ),
        (
            "{pal} wanted to go straight on, but after an hour they were back at the same rock.",
            '"Let us go straight on," said {pal}. After an hour they were back at the same rock.',
        ),
        (
            "{hero} climbed on a rock to look around, but there was nothing except grey.",
            '"Can you see the village?" asked {pal}. {hero} saw nothing except grey.',
        ),
    ),
    twists=(
        (
            "A tall shape with a burning eye came nearer, and {hero} was sure that it was a giant.",
            "But it was not a giant at all. It was {helper}, with a lamp on a long pole!",
        ),
        (
            "Something howled, and {hero} believed that a wolf had smelled them.",
            "But it was not a wolf at all. It was the dog of {helper}, and it wagged its tail!",
        ),
    ),
    rescues=(
        (
            "{helper} took them by the hand and led them home along the stream.",
            '"Come, I know the way," said {helper}, and led them home along the stream.',
        ),
        (
            "{helper} rang a bell, and they followed the sound until they saw the lights of the village.",
            '"Follow my bell!" called {helper}, and they walked until they saw the lights of the village.',
        ),
    ),
    losses=(
        "But rain had spoiled all that they had picked, and at home the feast was over.",
        "But the {thing} was lost in the dark, and everything in it too.",
    ),
    lessons=(
        "it is safer to stay on the path",
        "a warning should be heard",
        "it is better to turn back in time",
    ),
    summary="{hero} and {pal} pick berries in {place} and lose their way.",
    saved="{helper} brings them home.",
    lost="They come home late and with nothing.",
)

SLED = Plot(
    name="sled",
    things=("sled", "wagon", "cart", "scooter"),
    looks=("fast", "wooden", "shiny", "old", "green"),
    places=("the long hill", "the steep road", "the slope behind the barn", "the hill by the church"),
    wants=(
        "{she} had a {look} {thing} and wanted to be the fastest of all.",
        "{her} brother had lent {him} a {look} {thing} for the day.",
        "{she} had painted {her} {look} {thing} with stars.",
    ),
    going=(
        "At {place} {she} and {her} friend {pal} sat down on the {thing} and held on tight.",
        "{pal} helped {him} to pull it up to the top of {place}.",
        "The whole morning {she} and {pal} rode down {place}.",
    ),
    omens=(
        "One screw was loose and rattled, but {hero} {ignored}.",
        "A screw had fallen into the grass, but {hero} {ignored}.",
        "{her} father had asked {him} to look at the screw, but {hero} {ignored}.",
    ),
    troubles=(
        "Halfway down a screw came out, and the {thing} tipped over into the bushes.",
        "Then a screw broke, so that they could not steer and crashed into a fence.",
        "They went faster and faster until a screw flew off and the {thing} lay on its side.",
    ),
    attempts=(
        (
            "They tied the parts together with a scarf, but the scarf slipped off.",
            '"Take my scarf!" said {pal}. But the scarf slipped off.',
        ),
        (
            "{hero} pushed and pulled, but the {thing} did not move.",
            '"Push!" shouted {hero}. But the {thing} did not move.',
        ),
        (
            "They tried to mend it with a piece of wood, but the wood was too soft.",
            '"Maybe a piece of wood will do," said {pal}. But the wood was too soft.',
        ),
    ),
    twists=(
        (
            "A bush began to growl, and {hero} was sure that a lion was in it.",
            "But it was not a lion at all. It was {helper}, who was snoring after lunch!",
        ),
        (
            "Somebody with a hammer came running, and {hero} thought that it was an angry man.",
            "But it was not an angry man at all. It was {helper}, who only wanted to know if they were hurt!",
        ),
    ),
    rescues=(
        (
            "{helper} had a tool box, and after a short time the {thing} was as good as new.",
            '"I can fix that," said {helper}, and after a short time the {thing} was as good as new.',
        ),
        (
            "{helper} put in a new part and let them try it on the flat road first.",
            '"Try it on the flat road first," said {helper}, and put in a new part.',
        ),
    ),
    losses=(
        "But too many parts were missing, and the {thing} had to go to the dump.",
        "The {thing} was broken for good, and they had to walk all the way home.",
    ),
    lessons=(
        "you should mend things before you play with them",
        "being careful is better than being fast",
        "a small part can matter a lot",
    ),
    summary="{hero} and {pal} ride a {thing} down {place} and crash.",
    saved="{helper} mends it.",
    lost="The {thing} cannot be mended.",
)

OUTDOORS = (KITE, KEY, BOAT, CASTLE, WOODS, SLED)
