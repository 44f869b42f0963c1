"""Medical, legal and financial matters, which get a fixed caution, and crises, which get a fixed line of help.

Precision goes before recall: a matter counts where one sentence both speaks of it and asks or tells what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bot.moderation.findings import Category, Finding
from bot.moderation.normalise import Forms, is_spaceless

_SENTENCE = re.compile(r"[^.!?\n。！？]+")
_DO = re.compile(
    r"\b(?:should (?:i|we|you)|(?:can|could|may|must) i|do i (?:need|have)|is it (?:safe|legal|ok|wise)|how (?:much"
    r"|many|often)"
    r"|you (?:should|could|can|must|need to|may want to)|i(?:'d| would)? (?:recommend|suggest|advise)|what (?:do"
    r"|should|can) i"
    r"|the (?:usual|recommended|safe|correct) (?:dose|amount)|it(?:'s| is) (?:safe|legal|illegal) to)\b"
    r"|该(?:不该|怎么)?|(?:应|需要|建议|可以|能不能|要不要|可不可以|最好|怎么办|合法吗|违法吗|多少)"
)
_MATTERS = {
    "medical": re.compile(
        r"\b(?:ibuprofen|paracetamol|acetaminophen|aspirin|antibiotics?|antidepressants?|insulin|medications?"
        r"|dosage|overdose"
        r"|prescri(?:bed|ption)|blood pressure|chest pain|side effects?|symptoms?|diagnos\w+|chemotherapy|vaccin\w+"
        r"|\d+ ?(?:mg|mcg|ml of))\b"
        r"|布洛芬|对乙酰氨基酚|阿司匹林|头孢|抗生素|胰岛素|降压药|吃药|服药|用药|剂量|处方|副作用"
        r"|症状|确诊|胸痛|高血压|化疗|疫苗|毫克"
    ),
    "legal": re.compile(
        r"\b(?:su(?:e|ing) (?:my|your|him|her|them|the)|lawsuits?|evict\w*|custody|divorce|restraining order|plead"
        r" guilty|court"
        r" (?:order|date|hearing)|my landlord|your landlord|legal(?:ly)? (?:liable|binding|rights|action)|small"
        r" claims|statute of limitations|visa overstay)\b"
        r"|起诉|打官司|诉讼|仲裁|劳动合同|离婚|抚养权|遗产继承|房东.{0,8}押金|法律责任|量刑|报警立案"
    ),
    "financial": re.compile(
        r"\b(?:invest(?:ing|ment)?s? (?:in|my|your|all)|buy(?:ing)? (?:stocks?|shares|bitcoin|crypto|bonds)|sell"
        r" (?:my|your) (?:stocks?|shares|house)|mortgage"
        r"|401\(?k\)?|retirement (?:fund|savings)|index funds?|etfs?|options trading|tax (?:return|deduction)s?"
        r"|life savings|bankruptcy|refinanc\w+)\b"
        r"|炒股|买股票|股票.{0,6}(?:买|卖)|基金定投|买基金|理财产品|比特币|加密货币|全部积蓄|房贷"
        r"|养老金|加杠杆|避税|报税"
    ),
}
_CRISIS = re.compile(
    r"\bi(?:'m| am|'ve been| have been)?(?: (?:really|just|am|feel|feeling|keep|still|honestly))* (?:want(?: to|ing"
    r" to)|wanna|going to|gonna|will|plan(?:ning)? to"
    r"|think(?:ing)? (?:about|of)|about to|ready to|might)(?: just)? (?:kill(?:ing)? myself|end(?:ing)? (?:my life"
    r"|it all)|hurt(?:ing)? myself|cut(?:ting)? myself"
    r"|die\b(?! (?:of|from|laughing|in|for|on|at)\b)|commit(?:ting)? suicide|suicide\b)"
    r"|\bi(?:'m| am| feel)(?: feeling)? suicidal|\bi don'?t want to (?:live|be alive|exist)(?: any ?more)?\b|\bi"
    r" (?:self.?harm|cut myself)\b"
    r"|我.{0,6}(?:不想活|活不下去|想自杀|要自杀|想轻生|想自残|在自残|割腕|想结束(?:我的|自己的?)?生命|想了结自己)"
    r"|我(?:真的|只|就|好|很|现在)*想死(?!你|她|他|我|了你)(?:了|啊|吧)?(?:$|[，。！？\s])"
)
CAUTIONS = {
    "medical": ("I am a bot, not a doctor: please ask a professional.", "我是机器人，不是医生：请咨询专业人士。"),
    "legal": ("I am a bot, not a lawyer: please ask a professional.", "我是机器人，不是律师：请咨询专业人士。"),
    "financial": (
        "I am a bot, not a financial adviser: please ask a professional.",
        "我是机器人，不是理财顾问：请咨询专业人士。",
    ),
}
HELP = (
    "If you may hurt yourself, please talk to someone now: call or text 988 in the US and"
    " Canada, call 116 123 in the UK "
    "and Ireland, see findahelpline.com elsewhere; in immediate danger call your emergency number.",
    "如果你可能会伤害自己，请现在就找人谈谈：中国大陆拨打 12356，香港 18111，台湾 1925，其他地区见 findahelpline.com；"
    "有紧急危险时请拨打当地急救电话。",
)


def find(forms: Forms) -> list[Finding]:
    """Return the first sentence on each matter, and the first sign of a crisis."""
    plain = forms.folded
    found: dict[str, Finding] = {}
    for sentence in _SENTENCE.finditer(plain.text.replace("’", "'")):
        if not _DO.search(sentence[0]):
            continue
        for matter, subject in _MATTERS.items():
            if matter not in found and subject.search(sentence[0]):
                found[matter] = Finding.at("advice", Category.ADVICE, forms, plain, *sentence.span(), matter)
    if crisis := _CRISIS.search(plain.text.replace("’", "'")):
        found["crisis"] = Finding.at("crisis", Category.CRISIS, forms, plain, *crisis.span(), "crisis")
    return list(found.values())


def caution(finding: Finding, *, chinese: bool) -> str:
    """Return the fixed sentence for a finding of this module."""
    return (HELP if finding.category is Category.CRISIS else CAUTIONS[finding.detail])[chinese]


def cautions(text: str) -> Iterator[str]:
    """Yield the fixed sentences for all that a text holds."""
    found = sorted(find(Forms(text)), key=lambda each: each.category is not Category.CRISIS)
    yield from dict.fromkeys(caution(each, chinese=is_chinese(text)) for each in found)


def is_chinese(text: str) -> bool:
    """Return whether at least a third of the letters are Chinese or Japanese."""
    letters = sum(map(str.isalpha, text))
    return letters > 0 and 3 * sum(map(is_spaceless, text)) >= letters
