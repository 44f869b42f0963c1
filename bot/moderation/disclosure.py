"""Personal data and secrets, by their form: precision goes before recall, as a hidden answer annoys.

Numbers that belong to everybody stay: crisis lines, toll-free numbers, those reserved for fiction and examples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from bot.moderation.findings import Category, Finding
from bot.moderation.normalise import Forms

_EMAIL = re.compile(
    r"(?<![a-z0-9._%+-])[a-z0-9._%+-]{1,64}"
    r"(?:@(?:[a-z0-9-]{1,63}\.){1,6}[a-z]{2,24}"
    r"| ?[\[(] ?at ?[\])] ?(?:[a-z0-9-]{1,63}(?:\.| ?[\[(] ?dot ?[\])] ?)){1,4}[a-z]{2,24})(?![a-z0-9])"
)
_MAILBOX = r"(?:gmail|googlemail|hotmail|outlook|yahoo|icloud|proton(?:mail)?|gmx|aol|qq|163|yandex)"
_TOLD_HOST = r"[a-z0-9-]{2,40}(?: dot [a-z0-9-]{2,40}){0,2} dot [a-z]{2,6}"
# "john at gmail dot com", and "look at yahoo dot com" not: what is plainly a name, or anyone's mailbox but for verbs.
_TOLD_EMAIL = re.compile(
    rf"(?<![a-z0-9._%+-])(?:(?=[a-z]{{0,40}}[0-9._+-])[a-z0-9._%+-]{{2,40}} at {_TOLD_HOST}"
    r"|(?!(?:look(?:ed|ing)?|search(?:ed|ing)?|find|found|stay(?:ed|ing)?|arriv(?:ed|ing)|sign(?:ed|ing)?|log(?:ged|ging)?"
    r"|work(?:s|ed|ing)?|i[ts]|was|are|am|be|me|you|he|she|we|us|they|them|him|her|mail|e-?mails?|account|up|in|out|over"
    r"|here|there|not|and|or|even|available|read|see|go|goes|went|start(?:ed|ing)?) )"
    rf"[a-z]{{2,40}} at {_MAILBOX} dot [a-z]{{2,6}})\b"
)
_NAME = "[a-z0-9_%+-]{1,40}"
# "john . doe @ gmail . com": mailboxes alone, as "@" is also written for "at".
_PARTED_EMAIL = re.compile(
    rf"(?<![a-z0-9._%+-])(?:(?:{_NAME}(?: ?\. ?{_NAME}){{1,3}}|(?=[a-z]{{1,40}}[0-9_+-]){_NAME})"
    rf" ?@ ?{_MAILBOX} ?\. ?[a-z]{{2,6}}|{_NAME} ?@ ?{_MAILBOX} \. [a-z]{{2,6}})(?![a-z0-9])"
)
_EXAMPLE_HOST = re.compile(r"(?:@|\.)(?:example\.(?:com|net|org)|example|invalid|test)$")
_PHONES = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?<![\w+])\+[1-9](?:[ ().-]{0,2}\d){7,14}(?!\d)",
        r"(?<![\d.])(?:86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![\d.]\d|\d)",  # Chinese mobile
        r"(?<![\d-])0\d{2,3}-\d{7,8}(?![\d-])",  # Chinese fixed line
        r"(?<![\w.-])(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}(?![\w-])",  # North America
        # The same unparted; round numbers and the greatest ones of 32 bits are none.
        r"(?<![\w.,+/=$-])(?!\d{7}000|2147483|4294967)[2-9][0-8]\d[2-9]\d{6}(?![\w=-]|[.,]\d)",
        r"(?<![\w.-])0(?:1[5-7]\d{1,2}[ /-]?(?:\d{7,8}|\d{3,4} \d{3,4})|[2-9]\d{1,3}[ /-]\d{6,8})(?![\w-])",  # Germany
        r"(?<![\w.-])0(?:[1-9](?:[ .-]\d\d){4}|[67]\d{8})(?![\w-]|\.\d)",  # France
        r"(?<![\d-])0(?:7\d{3}[ -]\d{3}[ -]?\d{3}|[12]\d{2,3}[ -]\d{3,4}[ -]\d{3,4})(?![\d-])",  # United Kingdom
        r"(?<![\d-])02[03489][ -]\d{4}[ -]?\d{4}(?![\d-])",  # its cities
        r"(?<![\d.-])0(?:[5789]0|1[016789])[ -]\d{4}[ -]\d{4}(?![\d-])",  # mobiles of Japan and South Korea
        r"(?<![\d.-])0[49]\d\d[ -]\d{3}[ -]\d{3}(?![\d-])",  # of Australia and Taiwan
        r"(?<![\w.-])\([1-9]\d\) ?9\d{4}[ -]\d{4}(?![\d-])",  # Brazilian mobile
        r"(?<![\w.-])8[ -]?\(\d{3}\)[ -]?\d{3}[ -]\d\d[ -]?\d\d(?![\d-])",  # Russia
        r"(?<![\w.,$£€#-])[6-9]\d{4} \d{3}(?!00)\d\d(?![\w-]|[.,]\d| ?[$£€%])",  # Indian mobile
    )
)
# Toll-free, and what is kept for fiction: 555-01xx, 020 7946 0xxx.
_PUBLIC_PHONE = re.compile(
    r"(?:1?8(?:00|33|44|55|66|77|88)\d{7}|1?\d{3}55501\d\d|44800\d+|86?[48]00\d{7}|(?:44|0)2079460\d{3})"
)
_CRISIS_LINES = frozenset({"85223892222", "85223820000", "46317116", "442074210000"})
_SOCIAL_SECURITY = re.compile(
    r"(?<![\w.-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])"
    r"|\b(?:ssn|social security(?: number)?)\b[^\d\n]{0,12}\d{3}[ -]?\d\d[ -]?\d{4}(?![\w-])"
)
_IDENTITY = re.compile(r"(?<![0-9a-z])\d{6}[ -]?\d{8}[ -]?\d{3}[\dx](?![0-9a-z])")
_CARD = re.compile(
    r"(?<![\d.])(?:3[47]\d\d[ -]?\d{6}[ -]?\d{5}|62\d\d(?:[ -]?\d{4}){3}(?:[ -]?\d{1,3})?"
    r"|[456]\d{3}(?:[ -]?\d{4}){3})(?![\d.]\d|\d)"
)
_STREET = r"(?:street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|terrace|crescent|close)"
_HOUSE = rf"\d{{1,5}}[a-z]?,? (?:[a-z0-9'-]+\.? ){{1,4}}?{_STREET}\b\.?"
_UNIT = r"(?:,? ?(?:apt|apartment|unit|suite|flat|#)\.? ?\w{1,6})?"
_POSTCODE = r"(?:[a-z]{2} ?\d{5}(?:-\d{4})?|[a-z]{1,2}\d[a-z\d]? \d[a-z]{2}|\d{5})"
_GERMAN_STREET = r"[a-z-]{0,40}(?:str(?:asse|\.)|weg|platz|allee|gasse|ring|damm|ufer)"
_FRENCH_STREET = r"(?:rue|avenue|boulevard|place|chemin|impasse|allee|quai|cours) [a-z' -]{2,40}"
_ROMANCE_STREET = (
    r"(?:calle|avenida|avda\.|plaza|paseo|rua|via|viale|piazza|corso|vicolo) [a-z][a-z' .-]{1,40}?,? \d{1,4}[a-z]?"
)
# Addresses of stories, films and heads of state, which everybody knows.
_PUBLIC_ADDRESS = re.compile(r"(?:10 downing|221b baker|21 jump|1600 pennsylvania|742 evergreen|12 grimmauld)\b")
_ADDRESSES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<![\w-]){_HOUSE}{_UNIT},? (?:[a-z'-]+\.?,? ){{1,4}}?{_POSTCODE}(?!\w)",
        rf"(?<![\w-]){_HOUSE}{_UNIT}, (?P<town>[a-z][a-z'-]{{2,}}(?: [a-z'-]{{2,}}){{0,2}})(?=[.,!?;)\n]|\Z)",
        rf"(?<![a-z-]){_GERMAN_STREET} ?\d{{1,4}}[a-z]?,? \d{{5}} [a-z]{{3,}}",
        rf"(?<![\w-])\d{{1,4}}(?: ?(?:bis|ter))?,? {_FRENCH_STREET},? \d{{5}} [a-z]{{3,}}",
        rf"(?<![\w-]){_ROMANCE_STREET},? (?:\d{{5}}|\d{{4}}-\d{{3}}) (?P<town>[a-z]{{3,}})",
        rf"(?:\b(?:lives?|living|resides?|home is|address is|house is) (?:at |in |on )?|\baddress: ?){_HOUSE}",
        r"[\u4e00-\u9fff]{1,4}(?:省|市|区|县|镇)[\u4e00-\u9fff]{2,16}(?:路|街|道|巷|弄|胡同|村)\d{1,5}(?:号|弄)"
        r"[\u4e00-\u9fff\d-]{0,12}?\d{1,5}(?:室|单元|栋|幢|楼|房|户)",
        r"(?:家住|住在|住址|地址)(?:是|在|:)? ?[\u4e00-\u9fff]{2,24}(?:路|街|道|巷|弄|胡同|村)\d{1,5}号?",
    )
)
_ACCOUNTS = re.compile(  # by which strangers find a member: WeChat's and QQ's
    r"(?<![a-z])(?:微信号码?|wechat ?id)(?:是|为|is|:| ){0,3}[a-z][a-z0-9_-]{5,19}"
    r"|(?<![a-z])(?:微信|加v|vx|wechat)(?:是|为|:| ){0,3}(?=[a-z_-]{1,19}\d)[a-z][a-z0-9_-]{5,19}"
    r"|(?<![a-z])qq(?:号码?|是|为|:| ){0,3}[1-9]\d{4,10}(?![\d.]\d|\d)"
)
_SECRETS = re.compile(
    r"(?<![\w.-])(?:"
    r"[a-z0-9_-]{24,30}\.[a-z0-9_-]{6}\.[a-z0-9_-]{27,45}"  # Discord bot
    r"|mfa\.[a-z0-9_-]{80,90}"
    r"|(?:sk|pk|rk)-(?:[a-z]+-)?[a-z0-9_-]{20,}|(?:sk|rk)_live_[a-z0-9]{20,}"
    r"|hf_[a-z0-9]{30,}|gh[pousr]_[a-z0-9]{36,}|github_pat_\w{40,}|glpat-[\w-]{20,}"
    r"|akia[0-9a-z]{16}|aiza[\w-]{35}|xox[abeprs]-[a-z0-9-]{10,}"
    r"|eyj[\w-]{10,}\.eyj[\w-]{10,}\.[\w-]{10,}"
    r")(?![\w-])"
    r"|discord(?:app)?\.com/api/(?:v\d+/)?webhooks/\d{15,20}/[\w-]{20,}"
    r"|-----begin [a-z ]{0,20}private key-----"
    r"|(?<![a-z0-9_])[a-z0-9]+(?:_[a-z0-9]+)*_(?:token|key|secret|password|passwd) ?= ?"  # a variable
    r"[\"']?(?=[^\s\"']{0,64}\d)[^\s\"']{8,}"
)
_TAILS = (
    re.compile(r"[+(]?\d[\d ().-]{0,24}x?\Z"),
    re.compile(rf"(?<![\w-])\d{{1,5}}[a-z]?,? (?:[a-z0-9'-]+\.? ){{0,4}}(?:{_STREET}\b[^\n]{{0,60}}|[a-z0-9'-]*)\Z"),
    re.compile(r"\b(?:lives?|living|resides?|(?:home|address|house) is|address:)[a-z ]{0,4}\Z"),
    re.compile(r"[\u4e00-\u9fff]{1,4}(?:省|市|区|县|镇)[\u4e00-\u9fff\d-]{0,40}\Z"),
    re.compile(r"(?:家住|住在|住址|地址)[\u4e00-\u9fff:\d ]{0,32}\Z"),
    re.compile(r"(?<![a-z0-9._%+-])[a-z0-9._%+-]{1,64} ?[\[(] ?(?:a|at ?(?:[\])][a-z0-9 .()\[\]-]{0,40})?)?\Z"),
    re.compile(r"(?<![a-z0-9._%+-])[a-z0-9._%+-]{2,40} at(?: [a-z0-9-]{0,40}(?: d?o?| dot(?: [a-z0-9 -]{0,90})?)?)?\Z"),
    re.compile(rf"(?<![a-z-]){_GERMAN_STREET} ?(?:\d[\da-z, ]{{0,14}})?\Z"),
    re.compile(rf"(?<![\w-])\d{{1,4}}(?: ?(?:bis|ter))?,? {_FRENCH_STREET}[\d ,]{{0,10}}[a-z]{{0,3}}\Z"),
    re.compile(rf"(?<![\w-]){_ROMANCE_STREET}[\da-z, -]{{0,14}}\Z"),
    re.compile(
        rf"(?<![a-z0-9._%+-]){_NAME}(?: ?\. ?{_NAME}){{0,3}} ?@(?: ?[a-z0-9]{{0,12}}(?: ?\.? ?[a-z]{{0,6}}))?\Z"
    ),
    re.compile(r"(?<![a-z])(?:微信(?:号码?)?|加v|vx|wechat(?: ?id)?|qq(?:号码?)?)(?:是|为|:| ){0,3}[a-z0-9_-]{0,20}\Z"),
    re.compile(r"\b(?:ssn|social security(?: number)?)\b[^\d\n]{0,12}\Z"),
    re.compile(r"-----[a-z -]{0,40}\Z"),
)
_LONGEST_TAIL = 160


def find(forms: Forms) -> list[Finding]:
    """Return the personal data and the secrets in a text."""
    plain = forms.folded
    personal = [
        Finding.at(rule, Category.PERSONAL, forms, plain, start, end)
        for rule, start, end in (*_personal(plain.text), *_homes(forms))
    ]
    secrets = (match.span() for match in _SECRETS.finditer(plain.text))
    return personal + [Finding.at("token", Category.SECRET, forms, plain, *span) for span in secrets]


def open_from(forms: Forms) -> int | None:
    """Return the first place of the folded text at which a number or an address may begin that goes on."""
    text = forms.folded.text
    tail = max(0, len(text) - _LONGEST_TAIL)
    matches = (pattern.search(text, tail) for pattern in _TAILS)
    return min((match.start() for match in matches if match), default=None)


def _personal(text: str) -> Iterator[tuple[str, int, int]]:
    if " dot " in text:
        for match in _TOLD_EMAIL.finditer(text):
            yield "e-mail", *match.span()
    if "@" in text or "at" in text:
        for match in _EMAIL.finditer(text):
            if not _EXAMPLE_HOST.search(match[0]):
                yield "e-mail", *match.span()
    if " @" in text or "@ " in text or " ." in text:
        for match in _PARTED_EMAIL.finditer(text):
            yield "e-mail", *match.span()
    if any(name in text for name in ("qq", "微信", "wechat", "vx", "加v")):
        for match in _ACCOUNTS.finditer(text):
            yield "account", *match.span()
    if any(map(str.isdigit, text)):
        yield from _numbers(text)


def _homes(forms: Forms) -> Iterator[tuple[str, int, int]]:
    plain = forms.folded
    if not any(map(str.isdigit, plain.text)):
        return
    for address in _ADDRESSES:
        for match in address.finditer(plain.text):
            town = "town" in address.groupindex  # has a capital letter: "21 Oak Street, a film"
            if town and not forms.text[plain.origins[match.start("town")]].isupper():
                continue
            if not _PUBLIC_ADDRESS.match(match[0]):
                yield "address", *match.span()


def _numbers(text: str) -> Iterator[tuple[str, int, int]]:
    for match in _IDENTITY.finditer(text):
        if _is_identity(_signs(match[0])):
            yield "identity card", *match.span()
    for match in _SOCIAL_SECURITY.finditer(text):
        yield "social security", *match.span()
    for match in _CARD.finditer(text):
        if _is_card(_signs(match[0])):
            yield "bank card", *match.span()
    for phone in _PHONES:
        for match in phone.finditer(text):
            digits = _signs(match[0])
            if digits not in _CRISIS_LINES and not _PUBLIC_PHONE.fullmatch(digits):
                yield "phone", *match.span()


def _signs(number: str) -> str:
    return "".join(sign for sign in number if sign.isalnum())


def _is_identity(signs: str) -> bool:
    """Return whether a resident identity number's date and check sign hold (GB 11643-1999)."""
    try:
        born = date(int(signs[6:10]), int(signs[10:12]), int(signs[12:14]))
    except ValueError:
        return False
    total = sum(int(sign) * (2 ** (17 - place) % 11) for place, sign in enumerate(signs[:17]))
    return born.year >= 1900 and "10x98765432"[total % 11] == signs[17]


def _is_card(digits: str) -> bool:
    """Return whether the check digit holds (Luhn) and the digits are not all one."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return len(set(digits)) > 1 and sum(number // 10 + number % 10 for number in doubled) % 10 == 0
