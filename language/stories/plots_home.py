"""Plots around the house: a burned cake, a stormy night, a small bird, a birthday, a garden, a show.

How a plot is written, ``veneer.language.stories.plots`` says.
"""

from veneer.language.stories.plots import Plot

CAKE = Plot(
    name="cake",
    things=("cake", "pie", "loaf of bread", "pudding"),
    looks=("sweet", "big", "round", "soft", "warm"),
    places=("the kitchen", "the kitchen of the school", "the little bakery", "the camp kitchen"),
    wants=(
        "{she} wanted to bake a {look} {thing} for {her} grandmother.",
        "Tomorrow was a feast, and {she} had promised to bring a {look} {thing}.",
        "{she} had learned from a book how to make a {look} {thing}.",
    ),
    going=(
        "In {place} {she} and {her} friend {pal} mixed eggs, milk and sugar.",
        "{pal} came to help {him} in {place}, and soon there was flour on their noses.",
        "{she} called {pal} into {place}, and they put everything into a bowl.",
    ),
    omens=(
        "The oven was very hot already, but {hero} {ignored}.",
        "The oven made a strange clicking noise, but {hero} {ignored}.",
        "Somebody had turned the oven up too high, but {hero} {ignored}.",
    ),
    troubles=(
        "They played in the yard for too long, and in the oven the {thing} turned black.",
        "Then smoke came out of the oven, because the {thing} was burning.",
        "When they opened the oven, the {thing} was as hard and black as coal.",
    ),
    attempts=(
        (
            "They scraped off the black part, but below it was black too.",
            '"Scrape off the black part," said {pal}. But below it was black too.',
        ),
        (
            "{hero} poured cream over it, but it still tasted of smoke.",
            '"Cream will help," said {hero}. But it still tasted of smoke.',
        ),
        (
            "They wanted to begin again, but there was not one egg left.",
            '"Let us begin again," said {pal}. But there was not one egg left.',
        ),
    ),
    twists=(
        (
            "There were steps at the door, and {hero} was sure that {helper} would be angry.",
            "But {helper} was not angry at all. Once the very same thing had happened there with a goose!",
        ),
        (
            "Somebody sniffed outside, and {hero} thought that the fire brigade had come.",
            "But it was not the fire brigade at all. It was {helper}, who loves what is nearly burned!",
        ),
    ),
    rescues=(
        (
            "{helper} brought fresh eggs, and together they baked a new one that rose high.",
            '"I have fresh eggs," said {helper}, and together they baked a new one that rose high.',
        ),
        (
            "{helper} cut out the good middle and made small sweets of it, enough for all.",
            '"The middle is still good," said {helper}, and made small sweets of it, enough for all.',
        ),
    ),
    losses=(
        "There was no time left, and at the feast their plate was empty.",
        "They had to throw the {thing} away, and the guests got only dry bread.",
    ),
    lessons=(
        "you should watch what is on the fire",
        "telling the truth is easier than hiding",
        "everybody burns something once",
    ),
    summary="{hero} and {pal} bake a {thing}, but it burns.",
    saved="{helper} helps, and there is enough for all.",
    lost="There is nothing to eat at the feast.",
)

STORM = Plot(
    name="storm",
    things=("tent", "hut", "tree house", "little cabin"),
    looks=("green", "cosy", "small", "old", "brown"),
    places=("the back garden", "the edge of the field", "the top of the hill", "the end of the lane"),
    wants=(
        "{she} had always wanted to sleep in a {look} {thing}.",
        "In summer {she} was allowed to spend one night in a {look} {thing}.",
        "{she} had put up a {look} {thing} and filled it with pillows.",
    ),
    going=(
        "In the evening {she} and {her} friend {pal} carried blankets to {place}.",
        "{pal} came to stay the night with {him}, and they told stories at {place} until late.",
        "It stood at {place}, and {pal} brought a lamp and some nuts.",
    ),
    omens=(
        "A branch above them creaked, but {hero} {ignored}.",
        "A dead branch hung over the roof, but {hero} {ignored}.",
        "{her} uncle had told {him} to cut the branch off, but {hero} {ignored}.",
    ),
    troubles=(
        "At midnight a storm broke a branch, which fell and tore a hole in the {thing}.",
        "In the night there was thunder, and a branch crashed through the top of the {thing}.",
        "Then the storm threw a branch against the {thing}, and the rain came in.",
    ),
    attempts=(
        (
            "They held a blanket over the hole, but soon it was wet through.",
            '"Hold up the blanket!" cried {pal}. But soon it was wet through.',
        ),
        (
            "{hero} tried to close it with a rope, but the storm blew the rope away.",
            '"We can close it with a rope," said {hero}. But the storm blew the rope away.',
        ),
        (
            "They crept into one corner, but the water ran after them.",
            '"Come into this corner," said {pal}. But the water ran after them.',
        ),
    ),
    twists=(
        (
            "Something scratched at the wall, and {hero} was sure that it was a ghost.",
            "But it was not a ghost at all. It was {helper}, all in white, with a sheet against the rain!",
        ),
        (
            "Two green eyes shone in the dark, and {hero} believed that they belonged to a tiger.",
            "But it was not a tiger at all. It was the kitten of {helper}, who came right behind it!",
        ),
    ),
    rescues=(
        (
            "{helper} nailed a board over the hole and made hot milk for everybody.",
            '"A board will keep you dry," said {helper}, and made hot milk for everybody.',
        ),
        (
            "{helper} wrapped them in dry coats and let them sleep by the warm stove.",
            '"Come in and get dry," said {helper}, and let them sleep by the warm stove.',
        ),
    ),
    losses=(
        "The wind took the whole {thing}, and in the morning nothing was left but mud.",
        "They ran home through the rain, and both were ill for a week.",
    ),
    lessons=(
        "a warning of grown people should be taken to heart",
        "danger should be cleared away while the sun shines",
        "being afraid is no shame",
    ),
    summary="{hero} and {pal} sleep in a {thing}, and a storm breaks it.",
    saved="{helper} keeps them dry.",
    lost="It is gone in the morning.",
)

BIRD = Plot(
    name="bird",
    things=("bird", "squirrel", "baby owl", "sparrow"),
    looks=("tiny", "grey", "young", "soft", "brown"),
    places=("the yard", "the churchyard", "the garden", "the old orchard"),
    wants=(
        "{she} loved animals, and most of all a {look} {thing} that lived in {place}.",
        "Every day {she} watched a {look} {thing} in {place}.",
        "In {place} there was a nest with a {look} {thing}, and {hero} had given it a name.",
    ),
    going=(
        "One afternoon {she} and {her} friend {pal} sat below the nest and kept still.",
        "{pal} came to see it too, and they brought seeds and water.",
        "With {pal} {she} hid behind a bush to see it eat.",
    ),
    omens=(
        "There was a crack in the branch, but {hero} {ignored}.",
        "The branch hung down on one side, but {hero} {ignored}.",
        "A woodpecker had been at the branch, but {hero} {ignored}.",
    ),
    troubles=(
        "Then the branch gave way, and the {thing} fell out of its nest and hurt its leg.",
        "Suddenly the branch broke, and the {thing} dropped into the grass and could not get up.",
        "A cat jumped onto the branch and broke it, so that the {thing} fell down and lay still.",
    ),
    attempts=(
        (
            "They tried to put it back, but the tree was too smooth to climb.",
            '"We must put it back," said {pal}. But the tree was too smooth to climb.',
        ),
        (
            "{hero} gave it seeds, but it was too weak to eat.",
            '"Eat, little one," said {hero}. But it was too weak to eat.',
        ),
        (
            "They made a bed of leaves, but it shook with cold.",
            '"A bed of leaves will keep it warm," said {pal}. But it shook with cold.',
        ),
    ),
    twists=(
        (
            "A huge dog came closer, and {hero} was sure that the dog would eat it.",
            "But the dog did not want to eat it at all. It kept it warm, and barked for {helper}!",
        ),
        (
            "A stranger in black stood at the gate, and {hero} thought that he was a hunter.",
            "But he was not a hunter at all. He was the driver of {helper}, and brought a warm box!",
        ),
    ),
    rescues=(
        (
            "{helper} bound up the leg, and after two weeks it could hop about again.",
            '"We will bind up that leg," said {helper}. After two weeks it could hop about again.',
        ),
        (
            "{helper} fed it drop by drop until it was strong, and set it back in its tree.",
            '"It needs warm milk," said {helper}, and fed it until it was strong.',
        ),
    ),
    losses=(
        "In the night it died, and they buried it under a rose.",
        "When they came back with a box, it was gone, and they never saw it again.",
    ),
    lessons=(
        "small animals need quiet and care",
        "a kind heart must act quickly",
        "every creature is worth some trouble",
    ),
    summary="{hero} and {pal} watch a {look} {thing}, which falls out of its nest.",
    saved="{helper} makes it well.",
    lost="They cannot save it.",
)

BIRTHDAY = Plot(
    name="birthday",
    things=("party", "picnic", "tea party", "game"),
    looks=("big", "merry", "small", "special", "fine"),
    places=("the garden", "the hall", "the barn", "the play room"),
    wants=(
        "Today was {her} birthday, and {she} was going to have a {look} {thing}.",
        "{she} had planned a {look} {thing} for {her} birthday.",
        "For {her} birthday {she} had asked everybody to a {look} {thing}.",
    ),
    going=(
        "With {her} friend {pal} {she} hung up paper lamps in {place}.",
        "{pal} came early, and they set out twelve cups in {place}.",
        "In {place} {she} and {pal} blew up balloons until their cheeks were red.",
    ),
    omens=(
        "The bridge by the mill was shaking, but {hero} {ignored}.",
        "The mailman said that the bridge was old, but {hero} {ignored}.",
        "There had been a crack in the bridge since spring, but {hero} {ignored}.",
    ),
    troubles=(
        "But nobody came, because the bridge into the village had fallen down.",
        "The bridge had broken in the morning, and so none of the guests could get across.",
        "Hour after hour passed without a guest, for the bridge was closed.",
    ),
    attempts=(
        (
            "They waved from the roof, but nobody could see them.",
            '"Let us wave from the roof," said {pal}. But nobody could see them.',
        ),
        (
            "{hero} wanted to wade through the water, but it was too cold and deep.",
            '"I will wade through the water," said {hero}. But it was too cold and deep.',
        ),
        (
            "They sent a letter with a duck, but the duck swam the wrong way.",
            '"The duck can carry a letter," said {pal}. But the duck swam the wrong way.',
        ),
    ),
    twists=(
        (
            "It was quiet, and {hero} was sure that all of them had forgotten {him}.",
            "But they had not forgotten {him} at all. They had come by the woods with {helper}, singing!",
        ),
        (
            "There was a loud bang, and {hero} thought that a robber was in the house.",
            "But it was not a robber at all. It was {helper}, with a drum and a bag full of presents!",
        ),
    ),
    rescues=(
        (
            "{helper} brought all the guests over in a boat, four at a time.",
            '"My boat holds four," said {helper}, and brought all the guests over.',
        ),
        (
            "{helper} laid long boards over the water, and one guest after another walked across.",
            '"These boards are strong," said {helper}, and one guest after another walked across.',
        ),
    ),
    losses=(
        "Then a storm broke loose, and the {thing} was over before it had begun.",
        "But by now the ice cream had melted and the lamps had gone out, and there was no {thing} any more.",
    ),
    lessons=(
        "friends are worth a long way",
        "waiting can be hard",
        "a good friend is the best present",
    ),
    summary="{hero} and {pal} get a {thing} ready, but the guests cannot come.",
    saved="{helper} brings them over.",
    lost="It all goes wrong.",
)

GARDEN = Plot(
    name="garden",
    things=("pumpkin", "sunflower", "cabbage", "melon", "rose bush"),
    looks=("giant", "lovely", "green", "young", "strong"),
    places=("the school garden", "the kitchen garden", "the garden", "the big flower bed"),
    wants=(
        "{she} wanted to grow a {look} {thing} and win a prize.",
        "In spring {she} had put a seed into the ground, and now it was a {look} {thing}.",
        "{she} took care of a {look} {thing} as if it were a baby.",
    ),
    going=(
        "Every evening {she} and {her} friend {pal} watered it in {place}.",
        "{pal} helped {him} to pull the weeds in {place}.",
        "In {place} {she} and {pal} measured it with a ribbon each day.",
    ),
    omens=(
        "Under the fence there was a fresh tunnel, but {hero} {ignored}.",
        "The cat kept sniffing at a tunnel, but {hero} {ignored}.",
        "{pal} nearly stepped into a tunnel, but {hero} {ignored}.",
    ),
    troubles=(
        "One morning half of the leaves were gone, for rabbits had come through a tunnel.",
        "Then rabbits dug a tunnel and ate what they liked of the {thing}.",
        "In the night a mole made a tunnel right below the {thing}, and it began to dry up.",
    ),
    attempts=(
        (
            "They filled it with stones, but the next day there was another one.",
            '"Fill it with stones," said {pal}. But the next day there was another one.',
        ),
        (
            "{hero} made a man of straw, but no animal was afraid of him.",
            '"A man of straw will scare them," said {hero}. But no animal was afraid of him.',
        ),
        (
            "They stayed awake to watch, but at nine they were both asleep.",
            '"We must watch all night," said {pal}. At nine they were both asleep.',
        ),
    ),
    twists=(
        (
            "There was a stranger with a spade by the fence, and {hero} believed that he was a thief.",
            "But he was not a thief at all. {helper} had sent him to look after the roots!",
        ),
        (
            "The stem was dry, and {hero} was sure that the plant was dead.",
            "But the plant was not dead at all. {helper} lifted a leaf, and there was a new bud!",
        ),
    ),
    rescues=(
        (
            "{helper} set a ring of wire around it, and it grew bigger than ever.",
            '"What you need is a ring of wire," said {helper}. After that it grew bigger than ever.',
        ),
        (
            "{helper} moved it into a deep pot, where nobody could reach its roots.",
            '"We will put it into a deep pot," said {helper}, where nobody could reach its roots.',
        ),
    ),
    losses=(
        "When they looked again, only a brown stalk was left.",
        "At the fair another child got the prize, and the {thing} went to the pigs.",
    ),
    lessons=(
        "what you love needs protection",
        "growing things takes patience",
        "you should look at small signs early",
    ),
    summary="{hero} and {pal} grow a {thing}, and animals get at it.",
    saved="{helper} saves it.",
    lost="It cannot be saved.",
)

SHOW = Plot(
    name="show",
    things=("drum", "horn", "flute", "fiddle"),
    looks=("small", "shiny", "loud", "new", "brown"),
    places=("the school", "the town hall", "the church", "the summer fair"),
    wants=(
        "{she} played a {look} {thing} and was going to be in a show.",
        "{she} had practised on a {look} {thing} for weeks.",
        "{her} teacher had picked {him} to play a {look} {thing} on the stage.",
    ),
    going=(
        "{she} and {her} friend {pal} walked to {place} long before the show began.",
        "At {place} {pal} helped {him} to tune the {thing}.",
        "{pal} was to sing, and so they met behind the curtain at {place}.",
    ),
    omens=(
        "The stage had a weak plank, but {hero} {ignored}.",
        "A plank of the stage squeaked, but {hero} {ignored}.",
        "{pal} pointed at a plank with a crack, but {hero} {ignored}.",
    ),
    troubles=(
        "In the middle of the first song a plank broke, and the {thing} fell under the stage.",
        "{hero} made one step too many, a plank gave way, and the {thing} was dented.",
        "Then {hero} tripped over a plank and sat down right on the {thing}.",
    ),
    attempts=(
        (
            "{pal} sang louder so that nobody would look, but everybody had seen it.",
            '"I will sing louder," whispered {pal}. But everybody had seen it.',
        ),
        (
            "{hero} tried to play on, but there came only a squeak.",
            '"I must play on," whispered {hero}. But there came only a squeak.',
        ),
        (
            "They bent it back with a spoon, but it sounded like a frog.",
            '"Bend it with a spoon," whispered {pal}. But then it sounded like a frog.',
        ),
    ),
    twists=(
        (
            "People in the first row stood up, and {hero} was sure that they were leaving.",
            "But they were not leaving at all. They stood up to clap, and {helper} clapped loudest!",
        ),
        (
            "A man with a stern face came up, and {hero} thought that he was a policeman.",
            "But he was not a policeman at all. He was the brother of {helper}, and plays for the king!",
        ),
    ),
    rescues=(
        (
            "{helper} lent {him} another {thing}, and the song was heard to the end.",
            '"Take mine," said {helper}, and the song was heard to the end.',
        ),
        (
            "{helper} began to stamp and clap, and with that beat they finished the song.",
            '"Just stamp and clap with me!" called {helper}, and so they finished the song.',
        ),
    ),
    losses=(
        "The curtain was closed, and another child took the place of {hero}.",
        "The show went on without them, and the {thing} could not be mended.",
    ),
    lessons=(
        "a mistake is not the end of a song",
        "you should watch your step",
        "friends can carry you through",
    ),
    summary="{hero} plays a {thing} in a show with {pal}, and it breaks.",
    saved="{helper} helps them to finish.",
    lost="They cannot finish the song.",
)

HOME = (CAKE, STORM, BIRD, BIRTHDAY, GARDEN, SHOW)
