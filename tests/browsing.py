"""A page in a browser as people handle it."""

from __future__ import annotations

from selenium.webdriver.support.select import Select


class Page:
    """The page in the browser, as a reviewer handles it."""

    def __init__(self, browser, path):
        self.browser = browser
        browser.get(path.as_uri())

    def drawn(self):
        """Wait until the page has drawn what changed, which it does in the next frame."""
        self.browser.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def all(self, selector):
        self.drawn()
        return self.browser.find_elements("css selector", selector)

    def one(self, selector):
        self.drawn()
        return self.browser.find_element("css selector", selector)

    def script(self, text):
        return self.browser.execute_script(text)

    def choose(self, name, label):
        select = Select(self.one(f"select[name={name}]"))
        (text,) = (option.text for option in select.options if option.text.startswith(label))
        select.select_by_visible_text(text)

    def fill(self, name, value):
        self.script(f"filters.elements['{name}'].value = '{value}'; update()")

    def shown(self):
        """Slide, id and confidence of the cells on the cards, in order."""
        return self.script("return shown.map((c) => [slideName(c), data.id[c], data.confidence[c] / 100])")

    def press(self, key):
        self.browser.switch_to.active_element.send_keys(key)
        self.drawn()

    def focused(self, attribute):
        return self.browser.switch_to.active_element.get_attribute(attribute)
