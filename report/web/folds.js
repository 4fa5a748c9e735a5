// Sections are folded until they are asked for: a figure is drawn when its section opens. On paper all are.

const foldOf = (section) => section?.querySelector(":scope > details.fold");

function unfold(section) {
  const fold = foldOf(section);
  if (fold) fold.open = true;
}

if (narrow.matches) for (const part of document.querySelectorAll("details.wide-open")) part.open = false;

const folded = (section) => { const fold = foldOf(section); return Boolean(fold && !fold.open && !printing); };

// Everything that folds, open; for tests, and for whoever wants to search the page.
async function unfoldAll() {
  for (const part of document.querySelectorAll("details")) part.open = true;
  await open.draw();
}

document.addEventListener("toggle", ({ target }) => {
  const section = target.closest?.("section");
  const chapter = section && chapterOf(section);
  if (chapter && target.open && document.body.dataset.ready) chapter.draw([section.dataset.section]);
}, true);

// On a phone a table's rows become cards; each value then says which column it is of.
function labelCards(root) {
  for (const table of root.querySelectorAll("table.cards")) {
    const heads = [];
    [...table.tHead.rows].forEach((row, line) => {
      let column = 0;
      for (const cell of row.cells) {
        while (heads[column]?.below > line) column++;
        for (let i = 0; i < cell.colSpan; i++, column++) {
          heads[column] = { text: `${heads[column] ? `${heads[column].text}, ` : ""}${cell.textContent.trim()}`, below: line + cell.rowSpan };
        }
      }
    });
    for (const row of table.tBodies[0].rows) {
      let column = 0;
      for (const cell of row.cells) { cell.dataset.label = heads[column]?.text ?? ""; column += cell.colSpan; }
    }
  }
}
