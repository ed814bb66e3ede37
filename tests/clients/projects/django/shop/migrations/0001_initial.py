import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies: list[tuple[str, str]] = []
    operations = [
        migrations.CreateModel(
            "Label",
            [
                ("id", models.BigAutoField("ID", auto_created=True, primary_key=True, serialize=False)),
                ("text", models.CharField(max_length=20)),
            ],
        ),
        migrations.CreateModel(
            "Customer",
            [
                ("id", models.BigAutoField("ID", auto_created=True, primary_key=True, serialize=False)),
                ("email", models.CharField(max_length=80)),
                ("first", models.CharField(max_length=40, default="")),
                ("last", models.CharField(max_length=40, default="")),
            ],
            options={"unique_together": {("email", "last")}},
        ),
        migrations.CreateModel(
            "Product",
            [
                ("sku", models.UUIDField(primary_key=True, serialize=False)),
                ("title", models.CharField(max_length=100, db_index=True)),
                ("labels", models.ManyToManyField("shop.label")),
            ],
        ),
        migrations.CreateModel(
            "Purchase",
            [
                ("id", models.AutoField("ID", auto_created=True, primary_key=True, serialize=False)),
                ("customer", models.ForeignKey("shop.customer", django.db.models.deletion.CASCADE)),
                ("product", models.ForeignKey("shop.product", django.db.models.deletion.PROTECT)),
                ("number", models.IntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            "Passing", [("id", models.BigAutoField("ID", auto_created=True, primary_key=True, serialize=False))]
        ),
    ]
