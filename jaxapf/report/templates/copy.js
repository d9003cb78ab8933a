  // Copy buttons.
  const copyOld = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  for (const button of document.querySelectorAll(".copy")) {
    const label = button.textContent;
    button.addEventListener("click", async () => {
      const source = byId(button.dataset.copies);
      const text = source.tagName === "TABLE"
        ? [...source.rows].map((row) => [...row.cells].map((cell) => cell.dataset.value || cell.textContent).join("\t")).join("\n")
        : source.textContent;
      let done = true;
      try { await navigator.clipboard.writeText(text); } catch { done = copyOld(text); }
      button.textContent = done ? "Copied" : "Could not copy";
      announce(button.textContent);
      setTimeout(() => { button.textContent = label; }, 1500);
    });
  }
