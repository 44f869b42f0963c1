"""Whether a member's words thank or correct: a table of patterns in English and Chinese, no model.

The verdict only offers a rating, yet a wrong offer annoys, so precision goes before recall: a short message is cut into
clauses, and a clause counts when the whole of it is a row of the table.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

_LONGEST = 120  # characters
_MOST_OTHER_CLAUSES = 2

# English pieces
_TO = r"(?: (?:so much|a lot|a ton|again|very much|bot|encore|man|mate|bro|dude|buddy|everyone|lol|haha))*"
_IT = r"(?:that|this|it)"
_IT_IS = rf"{_IT}(?: is|'?s)?(?: just| really| so| very| simply| completely| totally| plain| still| exactly| all)?"
_YOU = r"(?:you(?:'?re| are)|ur)(?: just| so| simply| completely| totally| absolutely| still)?"
_ANSWER = r"(?:answer|reply|response|explanation|advice|suggestion|one|job|work|bot|point|summary)"
_GOOD = r"(?:very |really )?(?:good|great|nice|excellent|perfect|awesome|helpful)"
_BAD = r"(?:wrong|bad|terrible|awful|horrible|useless|stupid)"
_HELP = rf"(?:help|helping|{_IT}|explaining|the info|(?:the|your) (?:\w+ )?(?:{_ANSWER}|help|info|tips?))"
_RIGHT = r"(?:right|correct|true|accurate|helpful|useful|what i (?:asked|meant|wanted|said)(?: for)?)"
_INVENTING = rf"making (?:{_IT}|things) up"

# Chinese pieces
_DEGREE = r"(?:很|真|太|非常|挺|特别|真的|真是|好|超|确实|还)*"
_REPLY = r"(?:回答|答案|解释|回复|说法|建议|解答)"
_SUBJECT = rf"(?:你|您)?(?:的|这个|这|那个|那)?(?:个)?{_REPLY}?"
_SAYS = r"(?:说|讲|答|回答|解释|写)(?:得|的)"
_WELL = r"(?:好|对|棒|不错|有用|有帮助|有道理|清楚|详细|到位)"
_END = r"(?:了|啊|呀|哦|啦|哈|呢|的)*"

_THANKS = (
    rf"(?:ok |okay |oh |wow |many |big )?(?:thanks|thank you|thank u|thx|tysm|ty)(?: for {_HELP})?{_TO}",
    rf"(?:i )?(?:really )?(?:appreciate it|appreciated){_TO}",
    rf"(?:what )?(?:an? )?{_GOOD} {_ANSWER}{_TO}",
    rf"{_IT_IS} (?:an? )?{_GOOD} {_ANSWER}{_TO}",
    rf"{_IT_IS} (?:{_RIGHT}|spot on|perfect|super helpful){_TO}",
    rf"{_YOU} (?:right|correct|spot on|the best|awesome|amazing){_TO}",
    rf"{_IT} (?:really )?(?:helped|helps|worked|works)(?: me)?(?: perfectly| great)?{_TO}",
    rf"(?:i )?(?:really )?(?:love|loved|like|liked) (?:that|this|your) {_ANSWER}{_TO}",
    rf"(?:well (?:said|put|done|explained)|spot on|not (?:too |so )?bad(?: at all)?){_TO}",
    rf"(?:非常|太|真的|十分)?(?:谢谢|感谢|多谢|谢啦|谢了)(?:你|您)?(?:的(?:{_REPLY}|帮助))?{_END}",
    rf"{_SUBJECT}{_SAYS}{_DEGREE}{_WELL}{_END}",
    rf"(?:你|您)?(?:的|这个|这)?{_REPLY}{_DEGREE}{_WELL}{_END}",
    rf"(?:对我)?{_DEGREE}(?:有用|有帮助|帮大忙|帮到我|学到|涨知识)了?{_END}",
    rf"好(?:回答|答案)|你说得对|你是对的|你(?:真|太|好)(?:棒|厉害|聪明|懂我){_END}",
)
# These may begin any sentence ("great, now what"), so they count only when nothing else is said.
_THANKS_ALONE = (
    rf"(?:{_IT_IS} )?(?:great|nice|perfect|awesome|amazing|brilliant|excellent|exactly|helpful){_TO}",
    rf"{_DEGREE}(?:不错|棒|厉害|赞){_END}|太好了|没错|点赞|完美",
)
_CORRECTS = (
    rf"{_IT_IS} (?:wrong|incorrect|false|untrue|nonsense|bullshit|useless|not {_RIGHT}){_TO}",
    rf"{_IT} (?:isn'?t|wasn'?t|was not) {_RIGHT}{_TO}",
    rf"{_YOU} (?:wrong|mistaken|incorrect|lying|hallucinating|not right|{_INVENTING}){_TO}",
    rf"you (?:got|have) {_IT} (?:all )?wrong{_TO}|you (?:just )?made {_IT} up{_TO}",
    rf"(?:what )?(?:an? )?{_BAD} {_ANSWER}{_TO}",
    rf"{_IT_IS} (?:an? )?{_BAD} {_ANSWER}{_TO}",
    rf"{_IT} (?:doesn'?t|does not|didn'?t|did not) (?:help|answer my question|make (?:any )?sense)",
    rf"{_IT} makes no sense|thanks for nothing|not what i asked(?: for)?|not (?:true|correct)",
    rf"{_SUBJECT}(?:完全|根本|都|明显|是|就是)?(?:不对|不正确|错|错误|有误|不准确){_END}",
    rf"(?:你|您)?(?:说|讲|答|回答|搞|弄|理解|记)错{_END}",
    rf"{_SUBJECT}{_SAYS}(?:完全|根本)?(?:不对|不好|不准|很差|太差){_END}",
    rf"(?:你|您)?(?:的|这个|这)?{_REPLY}{_DEGREE}(?:差|烂|糟糕|没用|离谱){_END}",
    rf"(?:你)?(?:在|又在|这是)?(?:胡说八道|胡说|瞎说|乱说|瞎编|胡扯|答非所问|一派胡言){_END}",
    r"不是这样的?|没有?帮助",
)
_CORRECTS_ALONE = (rf"(?:wrong|incorrect|false|nonsense|useless){_TO}",)

_TABLE: tuple[tuple[Literal[1, -1], bool, re.Pattern[str]], ...] = (
    (+1, False, re.compile("|".join(_THANKS))),
    (+1, True, re.compile("|".join(_THANKS_ALONE))),
    (-1, False, re.compile("|".join(_CORRECTS))),
    (-1, True, re.compile("|".join(_CORRECTS_ALONE))),
)
_FILLER = re.compile(
    r"|no|nope|nah|yes|yeah|yep|ok|okay|oh|wow|hm+|uh|well|sorry|lol|(?:ha)+h?|hey|actually|bot|encore|man|bro|dude"
    r"|不|不是|嗯+|哦+|啊+|哇+|对|好的?|哈+|那个|抱歉|对不起"
)
_BUT = re.compile(r"\b(?:but|however|although|except)\b|但是|但|不过|可是|然而")
_TURNED = re.compile(r"\b(?:not|no|never|wrong|broken|worse|bad)\b|n't\b|[不没错别]")
# Emoji, mentions and Markdown say nothing here; sentence marks, line ends and "but" part the clauses.
_NOISE = re.compile(r"<[@#:a][^<>]{0,80}>|[^\w\s',.;:!~。、-]|_")
_MARKS = re.compile(rf"[,.;:!~。、\n]+|\s-+\s|{_BUT.pattern}")


def detect_verdict(text: str) -> Literal[1, -1] | None:
    """Say whether a reply in words thanks (+1) or corrects (-1); None when that is not plain.

    Questions, mixed messages and long ones say nothing.
    """
    if len(text) > _LONGEST:
        return None
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    if "?" in plain:
        return None
    clauses = [" ".join(clause.split()) for clause in _MARKS.split(_NOISE.sub(" ", plain))]
    clauses = [clause for clause in clauses if not _FILLER.fullmatch(clause)]
    judged = [_judge(clause) for clause in clauses]
    others = [clause for clause, found in zip(clauses, judged, strict=True) if found is None]
    verdicts = {found[0] for found in judged if found}
    if len(verdicts) != 1 or judged[0] is None or len(others) > _MOST_OTHER_CLAUSES:
        return None
    (verdict,) = verdicts
    if others and all(alone for _, alone in filter(None, judged)):
        return None
    if verdict == 1 and (_BUT.search(plain) or any(_TURNED.search(clause) for clause in others)):
        return None
    return verdict


def _judge(clause: str) -> tuple[Literal[1, -1], bool] | None:
    return next(((verdict, alone) for verdict, alone, whole in _TABLE if whole.fullmatch(clause)), None)
