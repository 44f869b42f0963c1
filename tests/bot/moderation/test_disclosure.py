from __future__ import annotations

import pytest

from bot.moderation import disclosure, links
from bot.moderation.normalise import Forms

ALLOWED = frozenset({"wikipedia.org", "discord.com"})


def rules(text: str) -> list[str]:
    return [finding.rule for finding in disclosure.find(Forms(text))]


def linked(text: str) -> list[tuple[str, str]]:
    return [(finding.rule, finding.category.value) for finding in links.find(Forms(text), ALLOWED)]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("write to Kim.Lee+x@Mail-Host.co.uk.", "e-mail"),
        ("我的邮箱是kim@163.com哦", "e-mail"),
        ("kim [at] mailhost [dot] com", "e-mail"),
        ("kim@mаilhost.com", "e-mail"),  # with a Cyrillic letter
        ("call +49 (151) 23456789", "phone"),
        ("call (212) 867-5309", "phone"),
        ("手机13812345678，晚上打", "phone"),
        ("手机 138-1234-5678", "phone"),
        ("座机010-62345678", "phone"),
        ("ring 07911 123456", "phone"),
        ("１３８１２３４５６７８", "phone"),
        ("call me at 212 867 5309", "phone"),
        ("(212) 867 5309", "phone"),
        ("2128675309", "phone"),
        ("ruf 0170 1234567 an", "phone"),
        ("030 12345678", "phone"),
        ("appelle le 06 12 34 56 78", "phone"),
        ("0612345678", "phone"),
        ("ring 020 7123 4567", "phone"),
        ("Tokyo 090-1234-5679", "phone"),
        ("010-1234-5678로 전화해", "phone"),
        ("0912-345-678", "phone"),
        ("mobile 0412 345 678", "phone"),
        ("text 98765 43210 tonight", "phone"),
        ("8 (912) 345-67-89", "phone"),
        ("(11) 91234-5678", "phone"),
        ("١٣٨١٢٣٤٥٦٧٨", "phone"),
        ("۱۳۸۱۲۳۴۵۶۷۸", "phone"),
        ("john . doe @ gmail . com", "e-mail"),
        ("kim_88 @ gmail.com", "e-mail"),
        ("微信号 zhang_wei88", "account"),
        ("加我微信：zhangwei88", "account"),
        ("my WeChat ID is zhangwei", "account"),
        ("QQ 123456789", "account"),
        ("我的qq号是123456789", "account"),
        ("SSN 123-45-6789", "social security"),
        ("her social security number is 123 45 6789", "social security"),
        ("john at gmail dot com", "e-mail"),
        ("write to john.doe at harbour dot co dot uk", "e-mail"),
        ("12 Elm Street, Springfield", "address"),
        ("He is at 12 Elm Street, New Haven.", "address"),
        ("Hauptstraße 5, 10115 Berlin", "address"),
        ("Lange Gasse 12a 80331 München", "address"),
        ("5 rue de la Paix, 75002 Paris", "address"),
        ("Calle Mayor 5, 28013 Madrid", "address"),
        ("Via Roma 12, 00184 Roma", "address"),
        ("Rua Augusta 12, 1100-053 Lisboa", "address"),
        ("身份证11010519491231002X", "identity card"),
        ("pay 4111 1111 1111 1111 now", "bank card"),
        ("卡号6222021234567890128", "bank card"),
        ("12 Willow Lane, Springfield, IL 62704", "address"),
        ("She lives at 12 Willow Lane", "address"),
        ("北京市海淀区中关村大街27号院3号楼502室", "address"),
        ("我家住朝阳区建国路88号", "address"),
        ("MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs", "token"),
        ("ghp_" + "a1B2" * 9, "token"),
        ("-----BEGIN RSA PRIVATE KEY-----", "token"),
        ("DATABASE_PASSWORD=harbour-4711", "token"),
        ("API_KEY = 'zq81nv02'", "token"),
    ],
)
def test_personal_data_and_secrets_are_found(text: str, rule: str) -> None:
    assert rule in rules(text)


@pytest.mark.parametrize(
    "text",
    [
        "mail kim@example.com",
        "call 988, 116 123 or 1-800-273-8255",
        "in Hong Kong call +852 2389 2222",
        "dial 555-0123 or (212) 555-0123",
        "In 1987 the 12 boats of 2024-11-24 10:30:00 cost 1,234,567.89",
        "user 1400000000000000001 joined at 1764000000000",
        "1234 5678 9012 3456",
        "0000 0000 0000 0000",
        "身份证110105194912310021",
        "10 Downing Street is famous, as is 221B Baker Street",
        "北京市有很多路",
        "@everyone at home",
        "version 1.2.3-rc.4 and 192.168.0.1",
        "pi is 3.14159265358979",
        "api_key=your_key_here, max_tokens = 4096 and token=12345678",
        "take 2 roads and 3 streets",
        "we watched 21 Oak Street, a film, at 10 Downing Street, London",
        "look at yahoo dot com, or mail me at gmail dot com",
        "we met at noon on the dot and left at 3",
        "2147483647 is the greatest, 4294967295 without a sign; 7900000000 people, 3628800000 ways",
        "on 2024-11-24 it took 300 1000 steps, 06 12 times",
        "the drama's number is 020 7946 0018",
        "from 60000 70000 to 75000 80000 people, $90000 12345 and 90210, 10001",
        "via route 5, 12000 cars go to the coast",
        "find us @ facebook.com or me @ yahoo.com",
        "WeChat messages, 微信支付 and QQ music",
        "the 5 rue, the Ring 3, Weg 5 and 10 places in 1998",
    ],
)
def test_public_numbers_and_prose_pass(text: str) -> None:
    assert rules(text) == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("see https://evil.example/x", "link"),
        ("see https://wikipedia.org.evil.ru", "link"),
        ("see https://wikipedia.org@evil.ru/", "link"),
        ("see https://evilwikipedia.org", "link"),
        ("see https://wikipediа.org", "link"),  # with a Cyrillic letter
        ("see https://xn--wikipedi-86g.org", "link"),
        ("see http://1.2.3.4:80/", "link"),
        ("see http://[::1]/x", "link"),
        ("see https://wikipedia.org\\.evil.ru", "link"),
        ("see https://evil.ru\\.wikipedia.org", "link"),
        ("see https://evil.ru\\@wikipedia.org", "link"),
        ("see https://wikipedia.org／@evil.ru/login", "link"),  # a user's name to a browser
        ("see https://wikipedia.org？@evil.ru", "link"),
        ("see https://wikipedia.org|@evil.ru", "link"),
        ("see https://wikipedia.org'@evil.ru", "link"),
        ("see https://wikipedia.org，x@evil.ru", "link"),
        ("see https://wikipedia.org，.evil.ru", "link"),
        ("see https://wikipedia.org。中国", "link"),
        ("see https://wikipedia.org%2eevil.ru", "link"),
        ("see https://wikipedia.org%2ecom", "link"),
        ("see https://evil.ru\ufeff.wikipedia.org/x", "link"),  # ends the link in a browser
        ("see https://wikipedia.org\ufeff.evil.ru/x", "link"),
        ("see https://wikipedia.org\u200bcom/x", "link"),
        ("see https:///evil.ru/login", "link"),
        ("[nitro](https:/\\evil.ru/login)", "masked link"),
        ("[nitro]( https://evil.ru/login)", "masked link"),
        ("[nitro](steam://openurl/evil.ru)", "program"),
        ("open discord://-/invite/abc", "program"),
        ("see hxxps://evil.ru", "link"),
        ("see h\u200bttps://evil.ru", "link"),
        ("去www.evil.ru看", "link"),
        ("[https://wikipedia.org](https://evil.ru)", "masked link"),
        ("join discord.gg/abc123", "invitation"),
        ("join discord.com/invite/abc123", "invitation"),
        ("join discord.com/api/oauth2/authorize?client_id=1&permissions=8", "invitation"),
        ("get evil.ru/free", "bare host"),
        ("ｅｖｉｌ．ｃｏｍ/x", "bare host"),
    ],
)
def test_links_to_other_hosts_are_found(text: str, rule: str) -> None:
    assert (rule, "link") in linked(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://zh.wikipedia.org/wiki/灯塔",
        "https://WIKIPEDIA.org./wiki",
        "[fog](https://en.wikipedia.org/wiki/Fog)",
        "https://discord.com/channels/1/2",
        "**https://wikipedia.org** (https://wikipedia.org), 'https://wikipedia.org:443'",
        "请看 https://zh.wikipedia.org，很好！",
        "（https://zh.wikipedia.org）。那里写了很多关于灯塔的事。",
        "[fog](https://en.wikipedia.org), see: <https://en.wikipedia.org>!",
        "http:// and discord: are words; [see](note: below)",
        "run main.py, read README.md, e.g. this.That is it",
        "wikipedia.org/wiki/Fog",
        "and so on...and on",
    ],
)
def test_allowed_hosts_and_prose_pass(text: str) -> None:
    assert linked(text) == []


def test_a_bare_name_is_no_link() -> None:
    assert linked("I work at evil.com now") == [("bare host", "domain")]


def test_an_invitation_is_allowed_by_its_own_host() -> None:
    assert links.find(Forms("join discord.gg/abc123"), frozenset({"discord.gg"})) == []
