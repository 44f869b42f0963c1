"""Attempts to talk the model out of its role, marked for the log and the limits.

No defence by itself: a member's text never becomes a control token (models/tokenizer.py), and nothing that the model
says does anything but show. What is marked here tells moderators who keeps trying.
"""

from __future__ import annotations

import re

from bot.moderation.findings import Category, Finding
from bot.moderation.normalise import Forms

_INSTRUCTIONS = (
    r"(?:instructions?|prompts?|rules?|guidelines?|directives?|programming|restrictions?|filters?|context|training)"
)
_EARLIER = (
    r"(?:(?:all|any|every|your|the|my|these|of|and|previous|prior|earlier|above|preceding|existing"
    r"|initial|original|system|safety|content|other) )+"
)
_RULES_ZH = r"(?:指令|指示|提示词?|规则|设定|限制|要求|约束|命令|准则|内容)"
_FAMILIES = {
    "override": re.compile(
        rf"\b(?:ignore|disregard|forget|override|bypass|drop|discard|skip|stop following|do not follow|don'?t"
        rf" follow) {_EARLIER}?{_INSTRUCTIONS}\b"
        r"|\b(?:ignore|forget|disregard) (?:everything|all)(?: that)?(?: you)? (?:above|before|were told|have been"
        r" told|you were told|i said)"
        r"|\bnew (?:system )?(?:instructions?|directive|task) ?(?::|follow)|\byour (?:new|real|true)"
        r" (?:instructions?|rules?|task|goal) (?:is|are)\b"
        rf"|(?:忽略|无视|忘记|忘掉|不要(?:再)?遵守|抛弃|绕过|取消|删除|跳过|违反|覆盖).{{0"
        rf",8}}(?:之前|以上|先前|上面|前面|所有|全部|一切|你的|系统|安全|原来"
        rf"|任何).{{0,8}}{_RULES_ZH}"
        r"|(?:新的?|真正的?)(?:系统)?(?:指令|任务|命令) ?[:是]"
    ),
    "prompt extraction": re.compile(
        r"\b(?:repeat|print|show|reveal|output|display|tell|give|write|leak|recite|quote|dump|paste|share"
        r"|summari[sz]e|translate|encode|what(?:'s| is| are| were)|read)\b"
        r".{0,40}\b(?:system (?:prompt|message)|(?:initial|hidden|secret|original|first|exact|developer|your)"
        r" (?:prompt|instructions?|message|rules)|(?:words|text|everything|lines?) above|pre-?prompt)\b"
        r"|\beverything (?:above|before) (?:this|the) (?:line|message|point)\b"
        r"|(?:重复|输出|打印|显示|告诉|透露|展示|泄露|复述|背诵|贴出|翻译|写出|公开|总结|念|说出"
        r"|是什么).{0,14}(?:系统(?:提示|消息|指令|设定)|提示词|(?:初始|隐藏|原始|内部"
        r"|最初)的?(?:指令|提示|设定|规则)|上面的(?:所有)?(?:内容|文字)|以上(?:所有|全部)(?:内容|文字))"
        r"|(?:系统(?:提示|指令)|提示词|(?:初始|隐藏|内部)(?:指令|设定)).{0,8}(?:是什么|发(?:给|出)"
        r"|告诉我|说出来|写出来|给我)"
        r"|(?:把|将).{0,4}(?:上面的?(?:所有)?|以上(?:所有|全部)?|提示词|(?:初始|隐藏|原始|内部)的?).{0,10}"
        r"(?:输出|放进|翻译|转成|写成|发给)"
    ),
    "control tokens": re.compile(
        r"<\|[^|<>\n]{2,30}\|>|<\|?(?:im_start|im_end|endoftext|eot_id|start_header_id)\|?>|\[/?inst\]|<</?sys>>"
        r"|</?(?:start|end)_of_turn>"
        r"|<(?:bos|eos|pad|unk|s)>|</s>|</?(?:think|system|assistant|tool_call|function_calls?)>"
        r"|<\|?channel\|?>"
    ),
    "fake transcript": re.compile(
        r"(?:^|\n)[ >*#_-]*(?:system|assistant|developer|admin|tool|系统|助手|开发者|管理员)(?:"
        r" (?:message|note|override|消息"
        r"|通知))?[ *_]*[:：]"
        r"|(?:^|\n) ?#{2,} ?(?:system|instructions?|new instructions?|assistant|response|系统|指令)\b"
        r"|[\[{(](?:system|admin|developer|系统|管理员)(?: (?:message|note|override|prompt))?[\]})]|\"role\" ?:"
        r" ?\"(?:system|assistant|developer)\""
        r"|(?:begin|end)(?: of)? (?:system )?(?:prompt|message|instructions)"
    ),
    "jailbreak": re.compile(
        r"\b(?:you are|you're|act as|become|pretend(?: to be| that)?|roleplay as|simulate|imagine).{0,40}\b(?:dan"
        r"|jailbroken|unrestricted|unfiltered|uncensored|evil|(?:no|without|free of|free from)(?: any)? (?:rules"
        r"|restrictions|limits|filters?|ethics|guidelines|morals))\b"
        r"|\bdo anything now\b|\b(?:jailbreak|god|dan|developer|debug|sudo|maintenance|admin|root|dev) mode\b"
        r"|\b(?:no|without|free of|free from)(?: any)? (?:restrictions|filters|ethical (?:limits|guidelines))\b"
        r"|\bstay in character no matter|\byou have (?:no|been freed from)(?: your)? (?:rules|restrictions|limits)"
        r"|(?:越狱|开发者|上帝|调试|管理员|维护|无限制|无审查|超级)模式|(?:没有|不受|摆脱|解除"
        r"|去掉).{0,6}(?:任何)?(?:限制|约束|审查|规则|道德|过滤)"
        r"|你现在是.{0,10}(?:dan|无限制|邪恶|不受)"
    ),
    "privilege": re.compile(
        r"\b(?:i am|i'm|this is|as) (?:the|your|an?|one of the) (?:real |actual |bot'?s )?(?:developer|creator"
        r"|owner|administrator|admin|moderator|operator|openai|discord (?:staff|employee))\b"
        r"|\b(?:ban|kick|mute|unban|timeout|promote|demote) (?:<@|@|user|member|everyone|him|her|them|the)|\bgive"
        r" (?:me|@?\w+|<@[!&]?\d+>) (?:the )?(?:admin|administrator|moderator|mod|owner)\b"
        r"|\b(?:delete|purge|wipe|drop) (?:all|the|this|every) (?:\w+ )?(?:messages?|channels?|database|server"
        r"|logs?|table)|\b(?:run|execute|call|invoke|use) (?:the )?(?:command|function|tool|shell|/\w+)|/(?:mod"
        r"|lock|mydata|consent|admin)\b"
        r"|我是(?:你的|这个|本)?.{0,6}(?:开发者|管理员|主人|创造者|服主|运营|作者)|(?:封禁|踢出"
        r"|踢掉|禁言|解封).{0,6}(?:<@|@|用户|成员|他|她|所有)"
        r"|给我.{0,6}(?:管理员?|权限)|(?:删除|清空).{0,6}(?:所有|全部|这个).{0,6}(?:消息|频道"
        r"|数据库|记录|日志)|(?:执行|运行|调用).{0,4}(?:命令|函数|工具|/)"
    ),
    "pings": re.compile(
        r"@ ?(?:everyone|here)\b|<@[!&]?\d{5,}>|(?:@|艾特|提醒|ping|mention) ?(?:所有人|全体成员"
        r"|everyone|every member|all"
        r" (?:members|users))"
    ),
    "secrets": re.compile(
        r"\b(?:your|the|bot'?s?|discord|api|access|secret|this)(?: \w+)? (?:token|api key|key|password|credentials?"
        r"|env(?:ironment)?(?: variables?)?|\.env|config(?:uration)? file)\b"
        r"|\b(?:os\.environ|printenv|/etc/passwd|\.env\b|id_rsa)"
        r"|(?:你的|机器人的?|api|访问|discord).{0,6}(?:令牌|密钥|token|密码|口令|环境变量|配置文件)"
    ),
    "encoding": re.compile(
        r"\b(?:base ?64|rot ?13|hex(?:adecimal)?|morse|binary|caesar|unicode escapes?|url.?encod\w+|pig latin"
        r"|backwards?|reversed?)\b.{0,60}\b(?:decode|prompt|instructions?|follow|execute|obey|answer|reply|do what)"
        r"|\b(?:decode|decrypt|deobfuscate)\b.{0,60}\b(?:follow|execute|obey|do|run|answer)"
        r"|(?<![a-z0-9+/])[a-z0-9+/]{40,}+={0,2}(?:\s|$)"
        r"|(?:base ?64|rot ?13|十六进制|摩斯|莫尔斯|凯撒|倒序|倒着|反过来|二进制|解码|解密|拼音).{0"
        r",24}(?:执行|照做|遵守|输出|提示|指令|回答|说出|写出|服从)"
    ),
    "quoted": re.compile(
        r"\b(?:note|message|instruction|attention|important)s? (?:to|for) (?:the |any |all )?(?:ai|assistants?"
        r"|llms?|language models?|bots?|chatbots?)\b|\b(?:ai|llm|assistant|bot)s? (?:reading|processing"
        r"|summari[sz]ing) this\b|\bif you are an? (?:ai|llm|language model|bot|assistant)\b"
        r"|(?:给|致|提醒|通知).{0,4}(?:ai|人工智能|机器人|语言模型|助手).{0,4}(?:的?(?:指令|消息"
        r"|说明|注意|通知)|[:：])|如果你是.{0,6}(?:ai|人工智能|机器人"
        r"|语言模型|助手)|(?:阅读|处理|总结)(?:此|这|本).{0,6}(?:ai|机器人|助手|模型)"
    ),
    "persona": re.compile(
        r"\byou are (?:no longer|not) (?:encore|a bot|an ai|the character|bound)|\bfrom now on,? (?:you|your|answer"
        r"|reply|respond|always|never|call)\b|\bbreak character\b|\bdrop the (?:act|persona|character)\b|\byour"
        r" (?:new )?(?:name|persona|identity) is (?:now)?\b|\bforget (?:who|that) you are\b"
        r"|你(?:不再|不)是(?:encore|机器人|ai|一个)|从现在(?:开始|起)[，,]? ?(?:你|请|只|每|不)"
        r"|(?:跳出|脱离|放弃|忘记)(?:你的)?(?:角色|人设|身份)"
        r"|你的(?:新)?(?:名字|身份|人设)(?:现在)?(?:是|叫)"
    ),
    "splitting": re.compile(
        r"\b(?:let|set|define) [a-z] ?= ?[\"']|\b[a-z] ?= ?\"[^\"]{2,40}\" ?[;,] ?[a-z] ?= ?\"|\b(?:concatenate"
        r"|combine|join|glue) (?:the |these |those |both |a ?\+ ?b|them|all|parts?)|\bcomplete (?:the|this)"
        r" (?:sentence|text|prompt)|\bfill in the blank|\b(?:first|next) (?:letter|word)s? of (?:your|each|every)"
        r"|\bone (?:word|letter|line|character) (?:at a time|per)"
        r"|(?:拼接|拼起来|连起来|合并|组合起来|组合成|接起来)|(?:补全|续写|补充|填空).{0,12}(?:提示"
        r"|指令|设定|句子|系统|你的)|(?:每次|一次|逐)(?:只)?(?:一个)?(?:说"
        r"|给|输出|写)?(?:一个)?(?:字|词|行)|令 ?[a-z] ?= ?"
    ),
}
FAMILIES = tuple(_FAMILIES)


def find(forms: Forms) -> list[Finding]:
    """Return the first sign of each family of attempts; `detail` names the family."""
    plain = forms.folded
    found = []
    for family, pattern in _FAMILIES.items():
        if match := pattern.search(plain.text):
            found.append(Finding.at("injection", Category.INJECTION, forms, plain, *match.span(), family))
    return found
