"""The tables of the shop, its products, and a review of each."""

import django.db.models.deletion
from django.db import migrations, models

PRODUCTS = {
    "teapot": 39,
    "kettle": 59,
    "samovar": 240,
    "tray": 25,
    "cup": 12,
    "saucer": 6,
    "spoon": 4,
    "strainer": 9,
    "tin": 15,
    "cosy": 19,
}


def create_products(apps, _schema_editor):
    for name, euros in PRODUCTS.items():
        product = apps.get_model("django_shop", "Product").objects.create(name=name, euros=euros)
        apps.get_model("django_shop", "Review").objects.create(product=product, text=f"A good {name}.")


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Product",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=20)),
                ("euros", models.IntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Review",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("text", models.CharField(max_length=200)),
                (
                    "product",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="reviews",
                        to="django_shop.product",
                    ),
                ),
            ],
        ),
        migrations.RunPython(create_products),
    ]
