"""The strings that tokenizers are compared on, by category.

Every category is a list of hand-written strings, filled up with seeded random ones over the
category's own alphabet. No two strings are equal after their digits are made alike.
"""
import random
import re

TARGET = 122  # strings per category, digits apart
DIGITS = 300

WORDS = """the quick brown fox jumps over lazy dog hello world token izer under stand able ly
un believ er ing Straße naïve café Zürich łódź ångström coöperate façade garçon jalapeño smörgåsbord
hyphen-ated snake_case camelCase PascalCase SCREAMING mixedCASE iPhone McDonald O'Neill it's don't
we'll I'd they've y'all rock'n'roll e.g. i.e. U.S.A. Ph.D. a.m. vs. etc""".split()

HAND = {
    "whitespace": ["", " ", "  ", "\t", "\n", "\r\n", "\r", " \n", "\n ", "a  b", "a   b", " a", "a ",
        "  a  ", "a\tb", "a\t\tb", "a \t b", "\n\n", "\n\n\n", "a\n\nb", "a\r\nb\rc\nd", "a \n b",
        "a\n    b\n        c", "\ta\n\t\tb", "trailing \n", "tail\t", "\v\f", "a\vb\fc", " \t \n \r ",
        "a" + " " * 17 + "b", "x\n \n \ny", "   leading and trailing   ", "end.  Start", "\n\t\n\t"],
    "unicode_spaces": ["a\u00a0b", "\u00a0", "a\u2003b\u2002c", "\u3000全角\u3000", "a\u200bb", "\u2028",
        "a\u2028b\u2029c", "a\u1680b", "\u202fnarrow\u202f", "a\u205fb", "\ufeffbom", "a\ufeffb", "\u0085",
        "a\u0085b", "\u180e", "a\u2060b", "\u200a\u2009\u2008", "1\u202f000\u00a0km"],
    "normalization": ["é", "e\u0301", "Å", "A\u030a", "\u212b", "ﬁ", "ﬀ ﬂ ﬃ", "①②③", "½ ¼ ¾", "x² y³", "ｆｕｌｌ",
        "ℌℍ", "K \u212a", "Ω \u2126", "가", "\u1100\u1161", "각 \u1100\u1161\u11a8", "\u0390 \u03b9\u0308\u0301",
        "ẛ̣", "\u1e9b\u0323", "s\u0323\u0307 s\u0307\u0323", "ǆ Ǆ ǅ", "ŉ", "İ i̇ I ı", "ẞ ß SS", "ς σ Σ",
        "\ufb1d \u05d9\u05b4", "㎏ ㎡ ㏂", "Ⅷ ⅷ", "𝐀𝔸𝓐", "ﷺ", "…", "″ ‴", "﹏ ＿", "q̣̇ q̣̇", "\u0344"],
    "emoji": ["😀", "😀😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "🇩", "1️⃣", "❤️", "❤", "👩🏿‍🚀", "hi😀there", "😀 ", " 😀", "🧑‍💻🧑‍💻",
        "👨‍👩‍👦‍👦 family", "☺︎ ☺️", "🫠🫡🫢", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "👁️‍🗨️",
        "🤷🏻‍♀️ who knows", "🐍🦀☕", "✅❌⚠️", "🎉!!!🎉", "a👍b👍c", "\u200d", "👍\u200d", "\ufe0f", "🏽"],
    "cjk": ["你好，世界", "日本語テスト", "こんにちは", "カタカナ", "ﾊﾝｶｸ", "한국어 텍스트", "中文English混排", "「引用」、。", "𠮷野家", "㐀㐁", "漢字かな交じり文。",
        "안녕하세요?", "ㄱㄴㄷ", "繁體中文與简体中文", "我喜欢吃苹果。你呢？", "東京都", "々〆ヶ", "，。！？；：", "が か\u3099", "ゔ う\u3099", "ㇰㇱ", "你 好", "第一章　开始"],
    "rtl": ["مرحبا بالعالم", "שלום עולם", "שָׁלוֹם", "مُحَمَّد", "עברית and English", "العربية ١٢٣", "\u200fRTL\u200e", "\u202eevil\u202c",
        "فارسی: گچپژ", "ﻻ لا", "(שלום)", "\u2067iso\u2069", "اردو میں", "ܫܠܡܐ", "ދިވެހި", "السَّلَامُ عَلَيْكُمْ", "א\u05b7", "٪ ؟ ،"],
    "combining": ["Z̷̢̛͎a̵l̶̡g̴o̷", "a\u0300\u0301\u0302", "\u0301", "\u0301a", " \u0301", "n\u0303o", "o\u0308\u0304", "क्षि", "नमस्ते दुनिया", "ไทยภาษา",
        "ก็", "தமிழ்", "বাংলা", "မြန်မာ", "ខ្មែរ", "ສະບາຍດີ", "తెలుగు", "සිංහල", "x\u20d7", "a\u0327\u0301 b", "\u0e33", "ó\u0323"],
    "control": ["\x00", "a\x00b", "\x00\x00", "\x01\x02\x03", "\x07bell", "a\x08b", "\x1b[31mred\x1b[0m", "\x7f", "a\x7fb", "\x80",
        "\x9f", "\x1c\x1d\x1e\x1f", "a\x1cb", "\ufffd", "a\ufffdb", "\ufffe", "\uffff", "\U0010ffff", "\U000f0000", "\ue000", "\u00ad soft\u00adhyphen",
        "\u061c", "\u2061\u2062", "\ufff9a\ufffab\ufffb", "\U0001fffe", "\ufdd0", "end\x00"],
    "code": ["def f(x):\n    return x + 1\n", "if (a&&b||!c) { d->e(); }", "for(i=0;i<n;++i){", "x = {'a': [1, 2], \"b\": None}",
        "SELECT * FROM t WHERE a='b';", "#include <vector>\n", "std::vector<std::pair<int,int>> v;", "\\n\\t\\\\", "a<<=2; b>>>=3;",
        "/* comment */ // more", "<!-- html -->", "fn main() -> Result<(), Box<dyn Error>> {", "λ x → x", "a?.b?.[c] ?? d",
        "@decorator\nclass A(B, metaclass=C):\n\t'''doc'''\n", "${VAR:-default} $(cmd) `x`", "%s %d %-10.3f %%", "\\u00e9 \\x41 \\0",
        "git commit -m \"fix: it's\" && git push -f", "rm -rf /tmp/*", "regex: ^(?:\\d+|[a-z_]\\w*)$", "i++ + ++i", "!==", "=>{}", "0xDEADbeef",
        "    four\n        eight\n\ttab\n", "print(f\"{x!r:>{w}}\")", "a[::-1][1:-1]", "\"\"\"triple\"\"\"", "{{ jinja }} {% if x %}"],
    "urls": ["https://example.com/a/b?c=d&e=f#g", "http://localhost:8080", "user@example.co.uk", "ftp://x.y/z.tar.gz", "www.test.de",
        "https://пример.рф/путь", "https://例え.jp", "/usr/local/bin/../lib", "C:\\Windows\\System32\\", "file:///etc/passwd", "~/.ssh/id_rsa.pub",
        "mailto:a.b+c@d.e", "data:text/plain;base64,SGVsbG8=", "https://a.b/%20%C3%A9?q=%F0%9F%98%80", "s3://bucket/key", "git@github.com:a/b.git",
        "10.0.0.1:443", "[::1]:80", "urn:isbn:0-306-40615-2", "#hashtag @mention", "a.b.c.d.e", "index.html?"],
    "contractions": ["don't", "DON'T", "Don’t", "I'm you're he's we'd they'll I've", "'tis 'twas", "rock 'n' roll", "'s", " 's", "it's's", "o'clock",
        "'", "''", "'''", "a'b'c", "he'LL", "we'Ve", "'re you", "can't've", "y'all'd've", "l'été", "d'accord", "qu'il", "’s ’t ’re", "'ſ", "I'Mm", "x'd y'D",
        "ain't nothin' goin' on", "the dogs' bones", "'quoted'", "\"it's\"", "n't", "'m'"],
    "specials": ["<|endoftext|>", "a<|endoftext|>b", "<|im_start|>user\nhi<|im_end|>", "<s>", "</s>", "<s>a</s>", " <s> ", "<|im_start|", "<|im_start|><|im_start|>",
        "[CLS] a [SEP] b [PAD]", "[MASK]", " [MASK] .", "<unk>", "<|begin_of_text|>x<|eot_id|>", "<pad>", "<|endoftext|><|endoftext|>", "x <|im_end|> y", "<|IM_END|>",
        "< |im_end| >", "<|im_end|>\n<|im_end|>", "[UNK]", "<mask>", "a <mask> b", "<0x0A>", "<0xE4><0xBD><0xA0>", "<0xZZ>", "<0x0a>", "▁", "▁a▁b", "a▁b", "Ġ", "Ġhello Ċ", "##ing",
        "## ing", "a##b", "<｜begin▁of▁sentence｜>", "[INST] hi [/INST]", "<<SYS>>", "<start_of_turn>model", "<tool_call>{\"a\":1}</tool_call>", "<repo_name>x", "<filename>"],
    "runs": [c * n for c, n in [("a", 300), (" ", 200), ("\n", 65), ("\t", 33), ("ab", 150), ("=", 120), ("-", 77), ("_", 64), (".", 50), ("é", 90), ("你", 80), ("😀", 40),
        ("\u0301", 30), ("'s", 40), ("!", 99), ("Ab", 70), ("a ", 100), (" a", 100), ("\r\n", 40), ("\u00a0", 40), ("#", 31), ("*", 16), ("/", 17), ("'", 25), ("\"", 26), ("<s>", 20), ("ا", 60), ("क", 50), ("\x00", 20), ("ﬁ", 30), ("각", 35), ("~", 128), ("A", 129), ("x ", 64), ("\\", 63)]],
    "mixed": ["Hello мир 世界 🌍!", "aбв", "Aа", "日本にGo", "café-кофе-咖啡", "αβγabc", "Ελλάδα 2", "ქართული ენა", "Հայերեն", "አማርኛ", "ᏣᎳᎩ", "монгол ᠮᠣᠩᠭᠣᠯ", "tiếng Việt đẹp", "Türkçe İstanbul ığüşöç",
        "Łódź Kraków", "Ünïcödé", "fooБАРbaz", "µm vs μm", "№ § ¶ † ‡", "ÀÉÎÕÜ", "ʻOkina Hawaiʻi", "Ŋŋ Ɛɛ Ɔɔ", "𐍈 𐌰", "𓀀𓁐", "ꦗꦮ", "ⵜⴰⵎⴰⵣⵉⵖⵜ", "ⰳⰾⰰⰳⱁⰾ"],
    "punctuation": ["!", "?!", "...", "…", "--", "—", "–", "a—b", "«quote»", "„German“", "“curly”", "¿Qué?", "¡Hola!", "a,b;c:d", "(a)", "[b]", "{c}", "<d>", "a/b\\c|d", "~`^", "@#$%&*", "+=", "$5 €6 £7",
        "a.b", "a. b", "a .b", "wait...what", "!!1!", "?!?!", "*bold* _it_", "\"'\"'", "``x''", "·•◦", "→←↑↓", "±×÷≠≤≥", "∀x∈ℝ: x²≥0", "∑∫√∞", "a·b", "№1", "‰ ‱", "⟨ψ|φ⟩", "☃☂★", "░▒▓█", "┌─┐", "‽", ".,.,.,", " , . "],
    "markup": ["<div class=\"a\">b</div>", "<br/>", "&amp; &lt; &#39;", "# Title\n\n- a\n- b\n", "**bold** and `code`", "| a | b |\n|---|---|\n", "[text](http://x.y)", "![img](a.png \"t\")", "```py\nx\n```", "$$\\frac{a}{b}$$",
        "\\begin{align} x &= y \\\\ \\end{align}", "{\"a\": [true, null, -1.5e3]}", "a: b\n  - c\n", "<?xml version=\"1.0\"?>", "<![CDATA[x]]>", "key=value;key2=\"v\"", "[section]\nk = v", "---\ntitle: x\n---", "> quote\n>> more",
        "1. one\n2. two", "a\\*b", "<a href='x'>y</a>", "{% raw %}", "==mark== ~~del~~", "H~2~O x^2^", ":emoji: :+1:"],
    "natural": ["Tokenization is the process of splitting text.", "Die Würde des Menschen ist unantastbar.", "L'État, c'est moi.", "¿Dónde está la biblioteca?", "Съешь ещё этих мягких французских булок.", "Η γλώσσα μου δόθηκε ελληνική.",
        "すべての人間は、生まれながらにして自由である。", "人人生而自由，在尊严和权利上一律平等。", "모든 인간은 태어날 때부터 자유로우며.", "Wszyscy ludzie rodzą się wolni.", "Tutti gli esseri umani nascono liberi.", "Bütün insanlar hür doğarlar.",
        "सभी मनुष्यों को गौरव प्राप्त है।", "يولد جميع الناس أحرارًا.", "כל בני האדם נולדו בני חורין.", "Alle mennesker er født frie.", "Mọi người sinh ra đều tự do.", "Kaikki ihmiset syntyvät vapaina.", "Once upon a time, in a land far, far away...",
        "He said: \"No!\" -- and left.", "Dr. Smith's 3 cats (all black) can't fly.", "THE END.", "ok", "I", "A B C", "so...  yeah?"],
}

ALPHABETS = {
    "whitespace": (list("ab. ") + [" ", "  ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "   ", "\v", "x"], 14),
    "unicode_spaces": (["\u00a0", "\u2003", "\u3000", "\u200b", "\u2028", "\u202f", "\u1680", "\ufeff", "a", "B", " ", ".", "\u205f", "\u2009", "é"], 10),
    "normalization": (["e\u0301", "é", "A\u030a", "\u212b", "ﬁ", "²", "①", "ｆ", "\u1100\u1161", "가", "\u11a8", "ß", "İ", "\u0323", "\u0307", "s", "ﷺ", "㎏", " ", "a", "Ⅷ", "½", "\u3099", "か", "\u05b4", "\u05d9"], 12),
    "emoji": (["😀", "👍", "🏽", "👩", "\u200d", "❤", "\ufe0f", "🇩", "🇪", "🏳️", "🚀", "a", " ", "!", "1", "\u20e3", "🧑‍💻", "🫠", "👧", "♀️"], 10),
    "cjk": (list("你好世界日本語テスト한국어漢字かな。、「」，？𠮷㐀々が ａＢ") + ["か\u3099", "a", " ", "\u3000"], 14),
    "rtl": (list("مرحباשלוםעברית،؟ ") + ["\u0651", "\u05b7", "\u200f", "\u202e", "\u202c", "لا", "a", "(", ")", "پ", "\u064e"], 14),
    "combining": (list("aeonक्षिนแมைறব") + ["\u0300", "\u0301", "\u0327", "\u0308", "\u0335", "\u20d7", "ি", "ั", " ", "ျ", "ែ"], 12),
    "control": (["\x00", "\x01", "\x07", "\x08", "\x1b", "\x1c", "\x7f", "\x80", "\x9f", "\ufffd", "\uffff", "\ue000", "\u00ad", "a", "b", " ", "\U0010ffff", "\ufffe", "\u2063", "\n"], 9),
    "code": (["if", "(", ")", "{", "}", "[", "]", "->", "::", "==", "!=", "&&", "x", "foo_bar", "self.", "\n    ", "\n\t", ";", "\"s\"", "'c'", "//", "+=", " ", "0x", "<", ">", "\\n", "return ", "@", "#", "%", "lambda ", "=>", "\n\n"], 16),
    "urls": (["http://", "https://", "www.", "a", "example", ".com", ".org", "/", "?", "=", "&", "#", "%20", "%C3", "-", "_", "~", ":", "@", "index", ".html", "пример", "例", "\\", "..", "+"], 10),
    "contractions": (["I", "you", "it", "don", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "’s", "'", " ", "'S", "'LL", "n't", "y'all", "x", "’", " '", "ſ", "é"], 9),
    "specials": (["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "[CLS]", "[SEP]", "<unk>", "<|begin_of_text|>", "<0x0A>", "▁", "Ġ", " ", "a", "\n", "<|", "|>", "<", "##", "[MASK]", "Ċ", "é", "<pad>", "user"], 9),
    "mixed": (list("abAБВгдαβγ你好世日本かな한글אבעربไทยकत🙂éßøñ ") + ["-", ".", "ქა", "Հա", "አማ"], 15),
    "punctuation": (list("!?.,;:-—–…\"'“”«»()[]{}<>/\\|@#$%^&*+=~`_ ¿¡§±→•a") + ["...", "--", "!?", " ."], 12),
    "markup": (["<b>", "</b>", "<br/>", "&amp;", "**", "__", "`", "```\n", "# ", "\n- ", "| ", "[", "](", ")", "$$", "\\frac", "{", "}", "a", "text", " ", "\n", "&#39;", "=", "\"", "<!--", "-->", "~~"], 12),
    "natural": (WORDS + [w.capitalize() for w in WORDS[:20]] + ["und", "the", "la", "le", "и", "не", "的", "是", "です", ",", ".", "?", ";"], 14),
}

DIGIT_PARTS = [".", ",", "-", ":", "/", " ", "e", "E+", "x", "%", "$", "€", "+", "(", ")", "k", "M", "px", "°", "_", "\n", "v", "#", "=", "٣", "५", "²", "½", "①", "３", "a", "th", "st", " and ", "'s", "..", "−", "×", "T", "Z"]
DIGIT_HAND = ["3.14159", "1,000,000", "2024-01-31T23:59:59.999Z", "+49 (0)30 1234-567", "192.168.0.255", "$19.99", "12:34:56", "1e-10", "0x1F4A9", "007", "1st 2nd 3rd", "50%", "99.9°C", "v1.2.3-rc4",
    "1/2 + 3/4", "१२३", "٤٥٦", "１２３", "²³¹", "10^100", "ISBN 978-3-16-148410-0", "4 8 15 16 23 42", "1234567890123456789012345678901234567890", "0", "00", "-1", "a1b2c3", "H2O CO2", "2x3x4", "1\n2\n3", "5'11\"",
    "9¾", "x1=10;y2=20", "#123456", "3.0e+8 m/s", "UTF-8 UTF-16", "mp3 mp4 h264", "COVID-19", "90s", "1990's", "24/7", "№5", "①②", "12345678901234567890.12345678901234567890", "1_000_000", "0b1010 0o17", "MCMXCIV 1994", "8:30am", "12m34s"]


def shape(text):
    """Equal for strings that differ in digits only."""
    return re.sub(r"\d", "0", text)


def random_runs(rng):
    unit = rng.choice(["a", " ", "\n", "ab", "é", "你", "=", "-", "😀", "'s ", "x\t", "Aa", "\u0301", ". ", "<", "ö", "。", "\\", "of ", "\u00a0 ", "_a", "##", "▁"])
    tail = rng.choice(["", "a", " b", "\n", "é", "!", "你", " .", "\t", "z "])
    head = rng.choice(["", "x", " ", "\n", "é", "“"])
    return head + unit * rng.randint(5, 90) + tail


def fill(category, rng):
    if category == "runs":
        return random_runs(rng)
    alphabet, longest = ALPHABETS[category]
    glue = " " if category == "natural" else ""
    return glue.join(rng.choice(alphabet) for _ in range(rng.randint(2, longest)))


def random_digits(rng):
    out = ""
    for _ in range(rng.randint(2, 8)):
        out += "".join(rng.choice("0123456789") for _ in range(rng.choice([1, 1, 2, 3, 4, 7, 13])))
        out += rng.choice(DIGIT_PARTS)
    return out


def categories():
    """{category: [strings]}, the same at every call."""
    seen = set()
    out = {}

    def take(into, text):
        if shape(text) not in seen:
            seen.add(shape(text))
            into.append(text)

    for category, hand in HAND.items():
        rng = random.Random("troupe " + category)
        texts = out[category] = []
        for text in hand:
            take(texts, text)
        while len(texts) < TARGET:
            take(texts, fill(category, rng))
    rng = random.Random("troupe digits")
    digits = out["digits"] = []
    for text in DIGIT_HAND:
        take(digits, text)
    while len(digits) < DIGITS:
        take(digits, random_digits(rng))
    return out
