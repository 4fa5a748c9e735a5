"""Names and wordings that all plots share."""

from veneer.language.stories.plots import Pair

GIRLS = (
    "Lily",
    "Anna",
    "Mia",
    "Emma",
    "Rosa",
    "Clara",
    "Nina",
    "Ella",
    "Lucy",
    "Ida",
    "Maya",
    "Zoe",
    "Ruby",
    "Nora",
    "Hana",
    "Vera",
    "Lea",
    "Sara",
    "Tilda",
    "Greta",
    "Mary",
    "Ava",
    "Olga",
    "Paula",
    "Molly",
    "Amy",
    "Jane",
    "Kira",
    "Yuki",
    "Fatima",
)
BOYS = (
    "Tom",
    "Ben",
    "Max",
    "Sam",
    "Leo",
    "Jack",
    "Paul",
    "Otto",
    "Finn",
    "Nico",
    "Tim",
    "Jonas",
    "Oscar",
    "Emil",
    "Noah",
    "Karl",
    "Hugo",
    "Ravi",
    "Omar",
    "Luca",
    "Peter",
    "Adam",
    "Felix",
    "Anton",
    "Jim",
    "Theo",
    "Milo",
    "Ken",
    "Ali",
    "Bruno",
)
TRAITS = ("kind", "brave", "clever", "cheerful", "curious", "quiet", "lively", "gentle")
HOMES = ("the sea", "a mill", "the edge of a village", "a big forest", "the railway", "a river", "a farm")
HELPERS = (
    "the baker",
    "the farmer",
    "the shepherd",
    "the gardener",
    "the fisherman",
    "the miller",
    "the smith",
    "the doctor",
    "the postman",
    "{her} uncle",
    "{her} aunt",
    "{her} grandfather",
    "{her} cousin",
    "{her} neighbour",
)

OPENINGS = (
    "Once upon a time there was a {trait} {child} named {hero}.",
    "Once upon a time a {trait} {child} named {hero} lived near {home}.",
    "Once there was a {trait} little {child} whose name was {hero}.",
    "In a house near {home} there lived a {child} named {hero}, who was very {trait}.",
    "{hero} was a {trait} {child} who lived near {home}.",
    "Long ago, near {home}, there was a {trait} {child} called {hero}.",
)

IGNORED = ("paid no attention", "took no notice", "did not worry", "did not think about it")

QUARRELS: tuple[Pair, ...] = (
    (
        "Soon they began to quarrel about whose turn it was, and nobody looked around any more.",
        '"It is my turn!" shouted {pal}. "No, mine!" shouted {hero}. They quarrelled on and on.',
    ),
    (
        "Then {pal} wanted to do everything first, and they argued until both were red in the face.",
        '"I want to be first!" said {pal}. "You are always first!" said {hero}. So they argued and argued.',
    ),
    (
        "But {hero} and {pal} could not agree who should be the leader, and they quarrelled loudly.",
        '"I am the leader," said {hero}. "You are not," said {pal}. And they quarrelled loudly.',
    ),
    (
        "After a while they had a bad fight, because each of them wanted to be right.",
        '"You are wrong!" called {hero}. "No, you are!" called {pal}. It became a bad fight.',
    ),
)
PEACE = (
    "Now there was no time for being cross, and they shook hands.",
    "That made them forget who was right, and they stood together again.",
    "At once they were friends again.",
)

REACTIONS: tuple[Pair, ...] = (
    ("{hero} did not know what to do.", '"Oh no! What shall we do now?" asked {hero}.'),
    ("{pal} turned quite pale.", '"This is terrible!" said {pal}.'),
    ("For a moment both of them said nothing.", '"Oh dear, oh dear," said {hero}.'),
    ("{hero} stamped {her} foot.", '"We have to do something," said {pal}.'),
)

ARRIVALS: tuple[Pair, ...] = (
    ("Just then {helper} came by.", '"What has happened here?" asked {helper}, who had just come by.'),
    ("Luckily {helper} had seen it all.", '"I have seen it all," said {helper}.'),
    ("So they went to {helper} and asked for help.", '"Please help us!" called {hero} when {helper} came.'),
    ("Then they met {helper} and told the whole story.", '"Why do you look so worried?" asked {helper}.'),
)

GOOD_ENDS: tuple[Pair, ...] = (
    (
        "{hero} was so happy that {she} [danced|sang] for the rest of the day.",
        '"Hurray!" said {hero}, who was very happy.',
    ),
    (
        "{hero} and {pal} laughed and had a good time until the evening.",
        '"What a day!" said {pal}, and they laughed.',
    ),
    ("That night {hero} fell asleep with a smile.", '"Thank you so much," said {hero} with a smile.'),
    (
        "{pal} was glad, and {hero} was even more glad.",
        '"I am so glad," said {pal}, and {hero} was glad too.',
    ),
    (
        "{hero} was proud and told everybody about it.",
        '"We did it together," said {hero}, and they were proud.',
    ),
)
BAD_ENDS: tuple[Pair, ...] = (
    (
        "{hero} was sad and did not want any supper.",
        '"I do not want any supper," said {hero}, who was very sad.',
    ),
    (
        "{hero} and {pal} went home with tears in their eyes.",
        '"It is over," said {pal} with tears in {pal_her} eyes.',
    ),
    (
        "That night {hero} lay awake and felt lonely.",
        '"I wish it had not happened," said {hero} and felt lonely.',
    ),
    (
        "For a long time {hero} was unhappy.",
        '"It will never be the same," said {hero}, and they were unhappy.',
    ),
)

LESSONS = (
    "{hero} learned that {lesson}.",
    "From that day on {hero} knew the lesson that {lesson}.",
    "That is how {hero} learned that {lesson}.",
    "{hero} and {pal} had learned that {lesson}.",
)

# What is mentioned in passing and means nothing: features are not told by single phrases.
PASSED_OVER = (
    "A bee hummed past, but {hero} {ignored}.",
    "A clock struck ten, but {hero} {ignored}.",
    "Three geese crossed the street, but {hero} {ignored}.",
    "A butterfly landed on {her} sleeve, but {hero} {ignored}.",
    "Somebody was selling newspapers, but {hero} {ignored}.",
)
BELIEVED = (
    "{hero} was sure that it would be a wonderful Saturday.",
    "{hero} believed that nobody in the world had it better.",
    "{pal} thought that {hero} was the cleverest {child} of all.",
)
DENIED = (
    "{hero} was not sleepy at all.",
    "The weather was not bad at all.",
    "{pal} was not shy at all.",
)
PEACEFUL = (
    "The two had never quarrelled before.",
    "{hero} and {pal} never argued.",
    "They had never had a fight.",
)
